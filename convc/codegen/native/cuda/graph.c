/* The network as a CUDA graph: a node for each launch, edges where one needs what another leaves behind.
 *
 * Callers' arrays are arguments of the kernels themselves. A call with other arrays than the last one changes the
 * nodes that use them; launches of the graph that are under way keep the arguments that they began with.
 */
#include <stdlib.h>

#include "handle.h"

static CUdeviceptr address(const Handle *handle, const Place *place) {
  switch (place->space) {
    case INPUT: return handle->bound[place->index] + place->offset;
    case OUTPUT: return handle->bound[convc_input_count + place->index] + place->offset;
    case WORKSPACE: return handle->arena + place->offset;
    default: return handle->weights + place->offset;
  }
}

/* Write a launch's arguments as the operands are bound now. */
void resolve_arguments(Handle *handle, int launch) {
  const Launch *it = &convc_launches[launch];
  for (int i = 0; i < it->places; i++)
    handle->values[it->first_place + i] = address(handle, &convc_places[it->first_place + i]);
}

static void **params_of(const Handle *handle, int launch) {
  return handle->params + convc_launches[launch].first_place + launch; /* each launch's end with a null */
}

void launch_params(const Handle *handle, int launch, CUDA_KERNEL_NODE_PARAMS *params) {
  const Launch *it = &convc_launches[launch];
  *params = (CUDA_KERNEL_NODE_PARAMS){
      .func = handle->functions[it->function],
      .gridDimX = it->grid[0], .gridDimY = it->grid[1], .gridDimZ = it->grid[2],
      .blockDimX = it->block[0], .blockDimY = it->block[1], .blockDimZ = it->block[2],
      .sharedMemBytes = it->shared_bytes,
      .kernelParams = params_of(handle, launch),
  };
}

static int add_node(Handle *handle, int launch, CUgraphNode *after) {
  const Launch *it = &convc_launches[launch];
  CUDA_KERNEL_NODE_PARAMS params;
  for (int i = 0; i < it->places; i++) params_of(handle, launch)[i] = &handle->values[it->first_place + i];
  resolve_arguments(handle, launch);
  launch_params(handle, launch, &params);
  for (int i = 0; i < it->afters; i++) after[i] = handle->nodes[convc_afters[it->first_after + i]];
  DO_FOR(handle, "adding to the graph the kernel", convc_functions[it->function].name,
         cuGraphAddKernelNode_v2(&handle->nodes[launch], handle->graph, after, it->afters, &params));
  return OK;
}

int build_graph(Handle *handle) {
  DO(handle, "making a graph", cuGraphCreate(&handle->graph, 0));
  CUgraphNode *after = calloc(convc_launch_count + 1, sizeof *after);
  if (!after) return fail(HOST_FAILED, "", "Not enough memory on the host.");
  int status = OK;
  for (int i = 0; i < convc_launch_count && !status; i++) status = add_node(handle, i, after);
  free(after);
  if (status) return status;
  DO(handle, "making the graph executable", cuGraphInstantiateWithFlags(&handle->exec, handle->graph, 0));
  return OK;
}

static int uses_any(int launch, const char *changed) {
  const Launch *it = &convc_launches[launch];
  for (int i = 0; i < it->places; i++) {
    const Place *place = &convc_places[it->first_place + i];
    if (place->space == INPUT && changed[place->index]) return 1;
    if (place->space == OUTPUT && changed[convc_input_count + place->index]) return 1;
  }
  return 0;
}

/* Let the next launch of the graph use these inputs and outputs. */
int bind_operands(Handle *handle, const CUdeviceptr *operands) {
  int count = convc_input_count + convc_output_count, any = handle->half_bound;
  char changed[count + 1];
  for (int i = 0; i < count; i++) {
    changed[i] = handle->half_bound || operands[i] != handle->bound[i];
    any |= changed[i];
    handle->bound[i] = operands[i];
  }
  if (!any) return OK;
  handle->half_bound = 1;
  for (int i = 0; i < convc_launch_count; i++) {
    CUDA_KERNEL_NODE_PARAMS params;
    if (!uses_any(i, changed)) continue;
    resolve_arguments(handle, i);
    launch_params(handle, i, &params);
    DO_FOR(handle, "changing the arguments of kernel", convc_functions[convc_launches[i].function].name,
           cuGraphExecKernelNodeSetParams_v2(handle->exec, handle->nodes[i], &params));
  }
  handle->half_bound = 0;
  return OK;
}
