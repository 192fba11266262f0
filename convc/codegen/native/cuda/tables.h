/* What the generated tables of a network and the CUDA runtime know of each other. */
#include <stddef.h>
#include <stdint.h>

/* A cubin, and the kernel that it was compiled from. */
typedef struct {
  const char *symbol;
  const void *data;
} Image;

typedef struct {
  int image;
  const char *name;
  unsigned shared_bytes; /* the most dynamic shared memory that any launch asks for */
} Function;

/* A pointer parameter: what it points into, the number of the input or output, and how far into it. */
enum { INPUT, OUTPUT, WORKSPACE, WEIGHTS };
typedef struct {
  int space, index;
  uint64_t offset;
} Place;

/* Arguments and the launches that it comes after are ranges of the two tables below. */
typedef struct {
  int function;
  unsigned grid[3], block[3], shared_bytes;
  int first_place, places;
  int first_after, afters;
} Launch;

/* Tables without entries still have one, which counts do not cover: C has no empty arrays. */
extern const Image convc_images[];
extern const Function convc_functions[];
extern const Launch convc_launches[];
extern const Place convc_places[];
extern const int convc_afters[];
extern const int convc_launch_steps[]; /* the program's step that each launch belongs to */
extern const uint64_t convc_operand_bytes[]; /* of the inputs, then of the outputs */
extern const int convc_image_count, convc_function_count, convc_launch_count, convc_place_count;
extern const int convc_input_count, convc_output_count;
extern const uint64_t convc_workspace_bytes, convc_weights_bytes;

/* What the kernels were compiled for. `convc_sm_exact`: they run on that very device only, as for sm_90a. */
extern const char convc_arch[];
extern const int convc_sm_major, convc_sm_minor, convc_sm_exact;
extern const int convc_cuda_version; /* as cuDriverGetVersion counts: 13000 is 13.0 */
