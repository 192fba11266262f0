
/* Products of a warpgroup, 128 threads, whose operands the tensor cores read from shared memory by themselves.
 *
 * Operands lie as [chunk][row][16 bytes]. That is the layout without swizzle of the PTX ISA ("Asynchronous warpgroup
 * level matrix shared memory layout", K-major): 8 rows of 16 bytes make a core matrix of 128 bytes; along k the next
 * one is a chunk further ("leading dimension byte offset"), along rows it follows at once ("stride").
 */
template <typename T>
__device__ __forceinline__ unsigned long long convc_matrix(const T *base, int chunk, int rows) {
  unsigned address = (unsigned)__cvta_generic_to_shared(base) + chunk * rows * 16;
  unsigned long long along_k = rows, along_rows = 128 >> 4;
  return (unsigned long long)((address & 0x3FFFF) >> 4) | along_k << 16 | along_rows << 32;
}
/* What threads wrote, by copies too, has to be made visible to the tensor cores' own way to memory. That is said of
 * shared memory alone: of all memory it would wait for the whole device, in every iteration.
 */
__device__ __forceinline__ void convc_warpgroup_begin() {
  asm volatile("fence.proxy.async.shared::cta;" : : : "memory");
  asm volatile("wgmma.fence.sync.aligned;" : : : "memory");
}
__device__ __forceinline__ void convc_warpgroup_end() {
  asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory");
  asm volatile("wgmma.wait_group.sync.aligned 0;" : : : "memory");
}
