/* Graphs: launches that run in reverse order wherever their edges allow it. */
#include "fake_cuda.h"

typedef struct CUgraphNode_st {
  Kernel kernel;
  int number, after_count, *after;
} Node;
struct CUgraph_st {
  Graph graph;
};
struct CUgraphExec_st {
  Graph graph;
};

static Graph copy_of(const Graph *graph) {
  Graph copy = {graph->count, calloc(graph->count + 1, sizeof *copy.nodes)};
  for (int i = 0; i < graph->count; i++) {
    copy.nodes[i] = malloc(sizeof **copy.nodes);
    *copy.nodes[i] = *graph->nodes[i];
    copy.nodes[i]->after = calloc(graph->nodes[i]->after_count + 1, sizeof(int));
    memcpy(copy.nodes[i]->after, graph->nodes[i]->after, graph->nodes[i]->after_count * sizeof(int));
  }
  return copy;
}

static void free_nodes(Graph *graph) {
  for (int i = 0; i < graph->count; i++) {
    free(graph->nodes[i]->after);
    free(graph->nodes[i]);
  }
  free(graph->nodes);
}

static int is_ready(const Node *node, const char *done) {
  for (int i = 0; i < node->after_count; i++)
    if (!done[node->after[i]]) return 0;
  return 1;
}

Graph *snapshot(CUgraphExec exec) {
  Graph *graph = malloc(sizeof *graph);
  *graph = copy_of(&exec->graph);
  return graph;
}

/* Always the last node that may run. */
CUresult run_graph(Graph *graph) {
  char *done = calloc(graph->count + 1, 1);
  CUresult result = CUDA_SUCCESS;
  for (int left = graph->count; left && !result; left--) {
    int i = graph->count - 1;
    while (done[i] || !is_ready(graph->nodes[i], done)) i--;
    result = execute_kernel(&graph->nodes[i]->kernel);
    done[i] = 1;
  }
  free(done);
  free_nodes(graph);
  free(graph);
  return result;
}

CUresult cuGraphCreate(CUgraph *graph, unsigned flags) {
  CALL(CONTEXT_AND_DEVICE);
  if (flags) return INVALID_VALUE;
  *graph = calloc(1, sizeof **graph);
  live[GRAPH]++;
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
  CALL(RELEASE);
  free_nodes(&graph->graph);
  free(graph);
  live[GRAPH]--;
  return CUDA_SUCCESS;
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *node, CUgraph to, const CUgraphNode *after, size_t afters,
                                 const CUDA_KERNEL_NODE_PARAMS *params) {
  CALL(CONTEXT_AND_DEVICE);
  Graph *graph = &to->graph;
  Kernel kernel;
  CUresult result = take_kernel(&kernel, params);
  if (result) return result;
  *node = calloc(1, sizeof **node);
  (*node)->kernel = kernel;
  (*node)->number = graph->count;
  (*node)->after = calloc(afters + 1, sizeof(int));
  for (size_t i = 0; i < afters; i++) (*node)->after[(*node)->after_count++] = after[i]->number;
  graph->nodes = realloc(graph->nodes, (graph->count + 1) * sizeof *graph->nodes);
  graph->nodes[graph->count++] = *node;
  return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
  CALL(CONTEXT_AND_DEVICE);
  if (flags) return INVALID_VALUE;
  *exec = calloc(1, sizeof **exec);
  (*exec)->graph = copy_of(&graph->graph);
  live[EXEC]++;
  return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  CALL(RELEASE);
  free_nodes(&exec->graph);
  free(exec);
  live[EXEC]--;
  return CUDA_SUCCESS;
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *params) {
  CALL(CONTEXT_AND_DEVICE);
  return take_kernel(&exec->graph.nodes[node->number]->kernel, params);
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream handle) {
  CALL(CONTEXT_AND_DEVICE);
  return put_graph(handle, exec);
}
