/* What the generated code of a network and the runtime know of each other. */
#include <stddef.h>
#include <stdint.h>

typedef struct {
  char *const *inputs;
  char *const *outputs;
  char *workspace;
  const char *weights;
} Call;

typedef int (*Step)(const Call *);

extern const Step convc_steps[];
extern const int convc_step_count;
extern const int convc_keeps_denormals;
extern const size_t convc_workspace_bytes, convc_weights_bytes;

/* Clear the border of a contiguous array of `outer` boxes; a box has `rank` axes of `extent`, then `inner` bytes. */
void zero_border(char *box, int64_t outer, int rank, const int64_t *extent, const int64_t *before,
                 const int64_t *after, int64_t inner);

/* Send memory from the caches back to where it came from, where the processor knows how. */
void evict(const char *from, int64_t bytes);
