/* What the parts of the runtime offer to generated code and to each other. */
#include <stdint.h>

/* What a parallel loop becomes: a function that does part `id` of `environment->num_task`. */
typedef struct {
  void *sync;
  int32_t num_task;
} TaskEnvironment;
typedef int (*Task)(int id, TaskEnvironment *environment, void *data);

/* threads.c: a call of a network stands between `begin_call` and `end_call`. */
void begin_call(int threads);
void end_call(void);
int parallel_launch(Task task, void *data, int num_task);

/* floats.c: the network's way with floating-point numbers, in the caller and in all tasks of its parallel loops. */
typedef uint64_t FloatMode;
FloatMode enter_own_mode(void);
void leave_own_mode(FloatMode before);
int launch_in_own_mode(Task task, void *data, int num_task);

/* scratch.c */
void *workspace_alloc(int device_type, int device_id, uint64_t bytes, int code, int bits);
int workspace_free(int device_type, int device_id, void *pointer);

/* services.c: what one module of the process offers to all, itself included.
 *
 * Modules of different versions of convc share this table. Entries are appended and never change; a module that
 * knows more entries than `bytes` covers does without them. */
typedef struct {
  uint64_t bytes;
  void (*begin_call)(int threads);
  void (*end_call)(void);
  int (*launch)(Task task, void *data, int num_task);
  void *(*alloc)(int device_type, int device_id, uint64_t bytes, int code, int bits);
  int (*free)(int device_type, int device_id, void *pointer);
} Services;
extern const Services *services;
