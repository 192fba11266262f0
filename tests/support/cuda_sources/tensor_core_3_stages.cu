#ifdef _WIN32
  using uint = unsigned int;
  using uchar = unsigned char;
  using ushort = unsigned short;
  using int64_t = long long;
  using uint64_t = unsigned long long;
#else
  #define uint unsigned int
  #define uchar unsigned char
  #define ushort unsigned short
#endif
__forceinline__ __device__ void tvm_builtin_ptx_cp_async_wait_group_async_wait_group_0() {
  asm volatile("cp.async.wait_group 0;" :  :  : "memory");
}
__forceinline__ __device__ void tvm_builtin_ptx_cp_async_wait_group_async_wait_group_1() {
  asm volatile("cp.async.wait_group 1;" :  :  : "memory");
}
__forceinline__ __device__ void tvm_builtin_ptx_cp_async_commit_group_async_commit_group() {
  asm volatile("cp.async.commit_group;" :  : );
}

__forceinline__ __device__ void ptx_cp_async_legacy_cg_16_2_2(void* dst, int dst_off, void* src, int src_off) {
  uint8_t* dst_p = (uint8_t*)dst + dst_off * 2;
  uint8_t* src_p = (uint8_t*)src + src_off * 2;
  unsigned int dst_addr = __cvta_generic_to_shared(dst_p);
  asm volatile("cp.async.cg.shared.global [%0], [%1], %2;"
    :: "r"(dst_addr), "l"(src_p), "n"(16));
}
extern "C" __global__ void __launch_bounds__(128) main_kernel(half* __restrict__ A_ptr, half* __restrict__ B_ptr, float* __restrict__ C_ptr);
extern "C" __global__ void __launch_bounds__(128) main_kernel(half* __restrict__ A_ptr, half* __restrict__ B_ptr, float* __restrict__ C_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float C_warp_ptr[32];
  alignas(64) half A_shared_dyn_warp_ptr[1024];
  alignas(64) half B_shared_dyn_warp_ptr[1024];
  for (int i_0_2_init = 0; i_0_2_init < 2; ++i_0_2_init) {
    for (int j_0_2_init = 0; j_0_2_init < 2; ++j_0_2_init) {
      for (int i = 0; i < 8; ++i) {
C_warp_ptr[((i_0_2_init * 16) + (j_0_2_init * 8)) + i] = 0.0;}
;
    }
  }
  int cse_v1 = (((int)blockIdx.y) * 16384);
  int cse_v2 = (((int)threadIdx.y) * 2048);
  int cse_v3 = (((int)threadIdx.x) >> 2);
  int cse_v4 = (((int)threadIdx.y) * 320);
  int cse_v5 = (((int)threadIdx.y) * 512);
  int cse_v6 = (((int)threadIdx.x) >> 3);
  int cse_v7 = (((int)blockIdx.x) * 64);
  int cse_v8 = (((int)threadIdx.y) * 288);
  int cse_v19 = ((((int)threadIdx.x) >> 2) * 256);
  int cse_v20 = ((((int)threadIdx.x) & 3) * 8);
  int cse_v21 = ((((int)threadIdx.x) >> 2) * 40);
  int cse_v22 = ((((int)threadIdx.x) >> 3) * 128);
  int cse_v23 = ((((int)threadIdx.x) & 7) * 8);
  int cse_v24 = ((((int)threadIdx.x) >> 3) * 72);
  for (int ax0_ax1_fused_0 = 0; ax0_ax1_fused_0 < 2; ++ax0_ax1_fused_0) {
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, (((((ax0_ax1_fused_0 * 1280) + (((int)threadIdx.y) * 320)) + ((((int)threadIdx.x) >> 2) * 40)) + ((((int)threadIdx.x) & 3) * 8)) + 6912), A_ptr, (((((((int)blockIdx.y) * 16384) + (ax0_ax1_fused_0 * 8192)) + (((int)threadIdx.y) * 2048)) + ((((int)threadIdx.x) >> 2) * 256)) + ((((int)threadIdx.x) & 3) * 8)));
  }
  for (int ax0_ax1_fused_0_1 = 0; ax0_ax1_fused_0_1 < 2; ++ax0_ax1_fused_0_1) {
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, ((((ax0_ax1_fused_0_1 * 1152) + (((int)threadIdx.y) * 288)) + ((((int)threadIdx.x) >> 3) * 72)) + ((((int)threadIdx.x) & 7) * 8)), B_ptr, (((((ax0_ax1_fused_0_1 * 2048) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 3) * 128)) + (((int)blockIdx.x) * 64)) + ((((int)threadIdx.x) & 7) * 8)));
  }
  tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
  for (int ax0_ax1_fused_0_2 = 0; ax0_ax1_fused_0_2 < 2; ++ax0_ax1_fused_0_2) {
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, (((((ax0_ax1_fused_0_2 * 1280) + (((int)threadIdx.y) * 320)) + ((((int)threadIdx.x) >> 2) * 40)) + ((((int)threadIdx.x) & 3) * 8)) + 9472), A_ptr, ((((((((int)blockIdx.y) * 16384) + (ax0_ax1_fused_0_2 * 8192)) + (((int)threadIdx.y) * 2048)) + ((((int)threadIdx.x) >> 2) * 256)) + ((((int)threadIdx.x) & 3) * 8)) + 32));
  }
  for (int ax0_ax1_fused_0_3 = 0; ax0_ax1_fused_0_3 < 2; ++ax0_ax1_fused_0_3) {
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, (((((ax0_ax1_fused_0_3 * 1152) + (((int)threadIdx.y) * 288)) + ((((int)threadIdx.x) >> 3) * 72)) + ((((int)threadIdx.x) & 7) * 8)) + 2304), B_ptr, ((((((ax0_ax1_fused_0_3 * 2048) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 3) * 128)) + (((int)blockIdx.x) * 64)) + ((((int)threadIdx.x) & 7) * 8)) + 4096));
  }
  tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
  int cse_v9 = (((int)threadIdx.x) * 8);
  int cse_v10 = (((int)threadIdx.y) >> 1);
  int cse_v11 = (((int)threadIdx.x) & 15);
  int cse_v25 = ((((int)threadIdx.y) >> 1) * 1280);
  int cse_v26 = ((((int)threadIdx.x) >> 4) * 8);
  int cse_v27 = ((((int)threadIdx.y) & 1) * 32);
  int cse_v39 = (((((int)threadIdx.x) & 15) * 40) + ((((int)threadIdx.x) >> 4) * 8));
  int cse_v40 = (((((int)threadIdx.x) & 15) * 72) + ((((int)threadIdx.x) >> 4) * 8));
  tvm_builtin_ptx_cp_async_wait_group_async_wait_group_1();
  __syncthreads();
  for (int ax0_0 = 0; ax0_0 < 2; ++ax0_0) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(((half*)buf_dyn_shmem_ptr)[((((((int)threadIdx.y) >> 1) * 1280) + (ax0_0 * 640)) + 6912)])) + (((((int)threadIdx.x) & 15) * 40) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(A_shared_dyn_warp_ptr + ((ax0_0 * 256) + (((int)threadIdx.x) * 8))))[0]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + ((ax0_0 * 256) + (((int)threadIdx.x) * 8))))[1]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + ((ax0_0 * 256) + (((int)threadIdx.x) * 8))))[2]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + ((ax0_0 * 256) + (((int)threadIdx.x) * 8))))[3])
      : "r"(addr)
    );
  }
  }
  for (int ax1_0 = 0; ax1_0 < 2; ++ax1_0) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(((half*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) & 1) * 32) + (ax1_0 * 16))])) + (((((int)threadIdx.x) & 15) * 72) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(B_shared_dyn_warp_ptr + ((ax1_0 * 256) + (((int)threadIdx.x) * 8))))[0]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + ((ax1_0 * 256) + (((int)threadIdx.x) * 8))))[1]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + ((ax1_0 * 256) + (((int)threadIdx.x) * 8))))[2]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + ((ax1_0 * 256) + (((int)threadIdx.x) * 8))))[3])
      : "r"(addr)
    );
  }
  }
  for (int k_0_0 = 0; k_0_0 < 6; ++k_0_0) {
    int cse_v28 = ((k_0_0 + 2) % 3);
    __syncthreads();
    for (int ax0_ax1_fused_0_4 = 0; ax0_ax1_fused_0_4 < 2; ++ax0_ax1_fused_0_4) {
      ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, ((((((((k_0_0 + 2) % 3) * 2560) + (ax0_ax1_fused_0_4 * 1280)) + (((int)threadIdx.y) * 320)) + ((((int)threadIdx.x) >> 2) * 40)) + ((((int)threadIdx.x) & 3) * 8)) + 6912), A_ptr, (((((((((int)blockIdx.y) * 16384) + (ax0_ax1_fused_0_4 * 8192)) + (((int)threadIdx.y) * 2048)) + ((((int)threadIdx.x) >> 2) * 256)) + (k_0_0 * 32)) + ((((int)threadIdx.x) & 3) * 8)) + 64));
    }
    for (int ax0_ax1_fused_0_5 = 0; ax0_ax1_fused_0_5 < 2; ++ax0_ax1_fused_0_5) {
      ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, (((((((k_0_0 + 2) % 3) * 2304) + (ax0_ax1_fused_0_5 * 1152)) + (((int)threadIdx.y) * 288)) + ((((int)threadIdx.x) >> 3) * 72)) + ((((int)threadIdx.x) & 7) * 8)), B_ptr, (((((((k_0_0 * 4096) + (ax0_ax1_fused_0_5 * 2048)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 3) * 128)) + (((int)blockIdx.x) * 64)) + ((((int)threadIdx.x) & 7) * 8)) + 8192));
    }
    tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
    tvm_builtin_ptx_cp_async_wait_group_async_wait_group_1();
    __syncthreads();
    int cse_v12 = (k_0_0 % 3);
    for (int ax0_0_1 = 0; ax0_0_1 < 2; ++ax0_0_1) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(((half*)buf_dyn_shmem_ptr)[(((((k_0_0 % 3) * 2560) + ((((int)threadIdx.y) >> 1) * 1280)) + (ax0_0_1 * 640)) + 6928)])) + (((((int)threadIdx.x) & 15) * 40) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(A_shared_dyn_warp_ptr + (((ax0_0_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + (((ax0_0_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + (((ax0_0_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[2]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + (((ax0_0_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[3])
      : "r"(addr)
    );
  }
    }
    for (int ax1_0_1 = 0; ax1_0_1 < 2; ++ax1_0_1) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(((half*)buf_dyn_shmem_ptr)[(((((k_0_0 % 3) * 2304) + ((((int)threadIdx.y) & 1) * 32)) + (ax1_0_1 * 16)) + 1152)])) + (((((int)threadIdx.x) & 15) * 72) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(B_shared_dyn_warp_ptr + (((ax1_0_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + (((ax1_0_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + (((ax1_0_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[2]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + (((ax1_0_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[3])
      : "r"(addr)
    );
  }
    }
    for (int i_0_2 = 0; i_0_2 < 2; ++i_0_2) {
      for (int j_0_2 = 0; j_0_2 < 2; ++j_0_2) {
        int cse_v13 = (j_0_2 * 256);
        int cse_v29 = ((i_0_2 * 256) + (((int)threadIdx.x) * 8));
        int cse_v30 = ((j_0_2 * 256) + (((int)threadIdx.x) * 8));
        int cse_v41 = (((i_0_2 * 512) + (j_0_2 * 256)) + (((int)threadIdx.x) * 8));

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[0]), "=f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[1]), "=f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[2]), "=f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[3])
      : "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[0]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[1]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[2]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[3]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + ((j_0_2 * 256) + (((int)threadIdx.x) * 8))))[0]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + ((j_0_2 * 256) + (((int)threadIdx.x) * 8))))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[0]), "f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[2]), "f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[3]));
  }

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[0]), "=f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[1]), "=f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[2]), "=f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[3])
      : "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[0]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[1]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[2]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[3]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2 * 256) + (((int)threadIdx.x) * 8)) + 4)))[0]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2 * 256) + (((int)threadIdx.x) * 8)) + 4)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[0]), "f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[2]), "f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[3]));
  }
      }
    }
    int cse_v31 = ((k_0_0 + 1) % 3);
    for (int ax0_0_2 = 0; ax0_0_2 < 2; ++ax0_0_2) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(((half*)buf_dyn_shmem_ptr)[((((((k_0_0 + 1) % 3) * 2560) + ((((int)threadIdx.y) >> 1) * 1280)) + (ax0_0_2 * 640)) + 6912)])) + (((((int)threadIdx.x) & 15) * 40) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(A_shared_dyn_warp_ptr + ((ax0_0_2 * 256) + (((int)threadIdx.x) * 8))))[0]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + ((ax0_0_2 * 256) + (((int)threadIdx.x) * 8))))[1]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + ((ax0_0_2 * 256) + (((int)threadIdx.x) * 8))))[2]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + ((ax0_0_2 * 256) + (((int)threadIdx.x) * 8))))[3])
      : "r"(addr)
    );
  }
    }
    for (int ax1_0_2 = 0; ax1_0_2 < 2; ++ax1_0_2) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(((half*)buf_dyn_shmem_ptr)[(((((k_0_0 + 1) % 3) * 2304) + ((((int)threadIdx.y) & 1) * 32)) + (ax1_0_2 * 16))])) + (((((int)threadIdx.x) & 15) * 72) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(B_shared_dyn_warp_ptr + ((ax1_0_2 * 256) + (((int)threadIdx.x) * 8))))[0]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + ((ax1_0_2 * 256) + (((int)threadIdx.x) * 8))))[1]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + ((ax1_0_2 * 256) + (((int)threadIdx.x) * 8))))[2]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + ((ax1_0_2 * 256) + (((int)threadIdx.x) * 8))))[3])
      : "r"(addr)
    );
  }
    }
    for (int i_0_2_1 = 0; i_0_2_1 < 2; ++i_0_2_1) {
      for (int j_0_2_1 = 0; j_0_2_1 < 2; ++j_0_2_1) {
        int cse_v14 = (j_0_2_1 * 256);
        int cse_v32 = ((j_0_2_1 * 256) + (((int)threadIdx.x) * 8));
        int cse_v42 = (((i_0_2_1 * 256) + (((int)threadIdx.x) * 8)) + 512);
        int cse_v43 = (((i_0_2_1 * 512) + (j_0_2_1 * 256)) + (((int)threadIdx.x) * 8));

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + ((i_0_2_1 * 16) + (j_0_2_1 * 8))))[0]), "=f"(((float *)(C_warp_ptr + ((i_0_2_1 * 16) + (j_0_2_1 * 8))))[1]), "=f"(((float *)(C_warp_ptr + ((i_0_2_1 * 16) + (j_0_2_1 * 8))))[2]), "=f"(((float *)(C_warp_ptr + ((i_0_2_1 * 16) + (j_0_2_1 * 8))))[3])
      : "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[2]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[3]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2_1 * 16) + (j_0_2_1 * 8))))[0]), "f"(((float *)(C_warp_ptr + ((i_0_2_1 * 16) + (j_0_2_1 * 8))))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2_1 * 16) + (j_0_2_1 * 8))))[2]), "f"(((float *)(C_warp_ptr + ((i_0_2_1 * 16) + (j_0_2_1 * 8))))[3]));
  }

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + (((i_0_2_1 * 16) + (j_0_2_1 * 8)) + 4)))[0]), "=f"(((float *)(C_warp_ptr + (((i_0_2_1 * 16) + (j_0_2_1 * 8)) + 4)))[1]), "=f"(((float *)(C_warp_ptr + (((i_0_2_1 * 16) + (j_0_2_1 * 8)) + 4)))[2]), "=f"(((float *)(C_warp_ptr + (((i_0_2_1 * 16) + (j_0_2_1 * 8)) + 4)))[3])
      : "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[2]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_1 * 256) + (((int)threadIdx.x) * 8)) + 512)))[3]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_1 * 256) + (((int)threadIdx.x) * 8)) + 516)))[0]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_1 * 256) + (((int)threadIdx.x) * 8)) + 516)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2_1 * 16) + (j_0_2_1 * 8)) + 4)))[0]), "f"(((float *)(C_warp_ptr + (((i_0_2_1 * 16) + (j_0_2_1 * 8)) + 4)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2_1 * 16) + (j_0_2_1 * 8)) + 4)))[2]), "f"(((float *)(C_warp_ptr + (((i_0_2_1 * 16) + (j_0_2_1 * 8)) + 4)))[3]));
  }
      }
    }
  }
  tvm_builtin_ptx_cp_async_wait_group_async_wait_group_0();
  __syncthreads();
  for (int ax0_0_3 = 0; ax0_0_3 < 2; ++ax0_0_3) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(((half*)buf_dyn_shmem_ptr)[((((((int)threadIdx.y) >> 1) * 1280) + (ax0_0_3 * 640)) + 6928)])) + (((((int)threadIdx.x) & 15) * 40) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(A_shared_dyn_warp_ptr + (((ax0_0_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + (((ax0_0_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + (((ax0_0_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[2]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + (((ax0_0_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[3])
      : "r"(addr)
    );
  }
  }
  for (int ax1_0_3 = 0; ax1_0_3 < 2; ++ax1_0_3) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(((half*)buf_dyn_shmem_ptr)[((((((int)threadIdx.y) & 1) * 32) + (ax1_0_3 * 16)) + 1152)])) + (((((int)threadIdx.x) & 15) * 72) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(B_shared_dyn_warp_ptr + (((ax1_0_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + (((ax1_0_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + (((ax1_0_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[2]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + (((ax1_0_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[3])
      : "r"(addr)
    );
  }
  }
  for (int i_0_2_2 = 0; i_0_2_2 < 2; ++i_0_2_2) {
    for (int j_0_2_2 = 0; j_0_2_2 < 2; ++j_0_2_2) {
      int cse_v15 = (j_0_2_2 * 256);
      int cse_v33 = ((i_0_2_2 * 256) + (((int)threadIdx.x) * 8));
      int cse_v34 = ((j_0_2_2 * 256) + (((int)threadIdx.x) * 8));
      int cse_v44 = (((i_0_2_2 * 512) + (j_0_2_2 * 256)) + (((int)threadIdx.x) * 8));

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + ((i_0_2_2 * 16) + (j_0_2_2 * 8))))[0]), "=f"(((float *)(C_warp_ptr + ((i_0_2_2 * 16) + (j_0_2_2 * 8))))[1]), "=f"(((float *)(C_warp_ptr + ((i_0_2_2 * 16) + (j_0_2_2 * 8))))[2]), "=f"(((float *)(C_warp_ptr + ((i_0_2_2 * 16) + (j_0_2_2 * 8))))[3])
      : "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_2 * 256) + (((int)threadIdx.x) * 8))))[0]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_2 * 256) + (((int)threadIdx.x) * 8))))[1]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_2 * 256) + (((int)threadIdx.x) * 8))))[2]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_2 * 256) + (((int)threadIdx.x) * 8))))[3]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + ((j_0_2_2 * 256) + (((int)threadIdx.x) * 8))))[0]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + ((j_0_2_2 * 256) + (((int)threadIdx.x) * 8))))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2_2 * 16) + (j_0_2_2 * 8))))[0]), "f"(((float *)(C_warp_ptr + ((i_0_2_2 * 16) + (j_0_2_2 * 8))))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2_2 * 16) + (j_0_2_2 * 8))))[2]), "f"(((float *)(C_warp_ptr + ((i_0_2_2 * 16) + (j_0_2_2 * 8))))[3]));
  }

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + (((i_0_2_2 * 16) + (j_0_2_2 * 8)) + 4)))[0]), "=f"(((float *)(C_warp_ptr + (((i_0_2_2 * 16) + (j_0_2_2 * 8)) + 4)))[1]), "=f"(((float *)(C_warp_ptr + (((i_0_2_2 * 16) + (j_0_2_2 * 8)) + 4)))[2]), "=f"(((float *)(C_warp_ptr + (((i_0_2_2 * 16) + (j_0_2_2 * 8)) + 4)))[3])
      : "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_2 * 256) + (((int)threadIdx.x) * 8))))[0]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_2 * 256) + (((int)threadIdx.x) * 8))))[1]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_2 * 256) + (((int)threadIdx.x) * 8))))[2]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_2 * 256) + (((int)threadIdx.x) * 8))))[3]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_2 * 256) + (((int)threadIdx.x) * 8)) + 4)))[0]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_2 * 256) + (((int)threadIdx.x) * 8)) + 4)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2_2 * 16) + (j_0_2_2 * 8)) + 4)))[0]), "f"(((float *)(C_warp_ptr + (((i_0_2_2 * 16) + (j_0_2_2 * 8)) + 4)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2_2 * 16) + (j_0_2_2 * 8)) + 4)))[2]), "f"(((float *)(C_warp_ptr + (((i_0_2_2 * 16) + (j_0_2_2 * 8)) + 4)))[3]));
  }
    }
  }
  for (int ax0_0_4 = 0; ax0_0_4 < 2; ++ax0_0_4) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(((half*)buf_dyn_shmem_ptr)[((((((int)threadIdx.y) >> 1) * 1280) + (ax0_0_4 * 640)) + 9472)])) + (((((int)threadIdx.x) & 15) * 40) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(A_shared_dyn_warp_ptr + ((ax0_0_4 * 256) + (((int)threadIdx.x) * 8))))[0]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + ((ax0_0_4 * 256) + (((int)threadIdx.x) * 8))))[1]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + ((ax0_0_4 * 256) + (((int)threadIdx.x) * 8))))[2]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + ((ax0_0_4 * 256) + (((int)threadIdx.x) * 8))))[3])
      : "r"(addr)
    );
  }
  }
  for (int ax1_0_4 = 0; ax1_0_4 < 2; ++ax1_0_4) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(((half*)buf_dyn_shmem_ptr)[((((((int)threadIdx.y) & 1) * 32) + (ax1_0_4 * 16)) + 2304)])) + (((((int)threadIdx.x) & 15) * 72) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(B_shared_dyn_warp_ptr + ((ax1_0_4 * 256) + (((int)threadIdx.x) * 8))))[0]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + ((ax1_0_4 * 256) + (((int)threadIdx.x) * 8))))[1]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + ((ax1_0_4 * 256) + (((int)threadIdx.x) * 8))))[2]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + ((ax1_0_4 * 256) + (((int)threadIdx.x) * 8))))[3])
      : "r"(addr)
    );
  }
  }
  for (int i_0_2_3 = 0; i_0_2_3 < 2; ++i_0_2_3) {
    for (int j_0_2_3 = 0; j_0_2_3 < 2; ++j_0_2_3) {
      int cse_v16 = (j_0_2_3 * 256);
      int cse_v35 = ((j_0_2_3 * 256) + (((int)threadIdx.x) * 8));
      int cse_v45 = (((i_0_2_3 * 256) + (((int)threadIdx.x) * 8)) + 512);
      int cse_v46 = (((i_0_2_3 * 512) + (j_0_2_3 * 256)) + (((int)threadIdx.x) * 8));

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + ((i_0_2_3 * 16) + (j_0_2_3 * 8))))[0]), "=f"(((float *)(C_warp_ptr + ((i_0_2_3 * 16) + (j_0_2_3 * 8))))[1]), "=f"(((float *)(C_warp_ptr + ((i_0_2_3 * 16) + (j_0_2_3 * 8))))[2]), "=f"(((float *)(C_warp_ptr + ((i_0_2_3 * 16) + (j_0_2_3 * 8))))[3])
      : "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[2]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[3]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2_3 * 16) + (j_0_2_3 * 8))))[0]), "f"(((float *)(C_warp_ptr + ((i_0_2_3 * 16) + (j_0_2_3 * 8))))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2_3 * 16) + (j_0_2_3 * 8))))[2]), "f"(((float *)(C_warp_ptr + ((i_0_2_3 * 16) + (j_0_2_3 * 8))))[3]));
  }

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + (((i_0_2_3 * 16) + (j_0_2_3 * 8)) + 4)))[0]), "=f"(((float *)(C_warp_ptr + (((i_0_2_3 * 16) + (j_0_2_3 * 8)) + 4)))[1]), "=f"(((float *)(C_warp_ptr + (((i_0_2_3 * 16) + (j_0_2_3 * 8)) + 4)))[2]), "=f"(((float *)(C_warp_ptr + (((i_0_2_3 * 16) + (j_0_2_3 * 8)) + 4)))[3])
      : "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[2]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_3 * 256) + (((int)threadIdx.x) * 8)) + 512)))[3]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_3 * 256) + (((int)threadIdx.x) * 8)) + 516)))[0]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_3 * 256) + (((int)threadIdx.x) * 8)) + 516)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2_3 * 16) + (j_0_2_3 * 8)) + 4)))[0]), "f"(((float *)(C_warp_ptr + (((i_0_2_3 * 16) + (j_0_2_3 * 8)) + 4)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2_3 * 16) + (j_0_2_3 * 8)) + 4)))[2]), "f"(((float *)(C_warp_ptr + (((i_0_2_3 * 16) + (j_0_2_3 * 8)) + 4)))[3]));
  }
    }
  }
  for (int ax0_0_5 = 0; ax0_0_5 < 2; ++ax0_0_5) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(((half*)buf_dyn_shmem_ptr)[((((((int)threadIdx.y) >> 1) * 1280) + (ax0_0_5 * 640)) + 9488)])) + (((((int)threadIdx.x) & 15) * 40) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(A_shared_dyn_warp_ptr + (((ax0_0_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + (((ax0_0_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + (((ax0_0_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[2]), "=r"(((unsigned *)(A_shared_dyn_warp_ptr + (((ax0_0_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[3])
      : "r"(addr)
    );
  }
  }
  for (int ax1_0_5 = 0; ax1_0_5 < 2; ++ax1_0_5) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(((half*)buf_dyn_shmem_ptr)[((((((int)threadIdx.y) & 1) * 32) + (ax1_0_5 * 16)) + 3456)])) + (((((int)threadIdx.x) & 15) * 72) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(B_shared_dyn_warp_ptr + (((ax1_0_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + (((ax1_0_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + (((ax1_0_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[2]), "=r"(((unsigned *)(B_shared_dyn_warp_ptr + (((ax1_0_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[3])
      : "r"(addr)
    );
  }
  }
  for (int i_0_2_4 = 0; i_0_2_4 < 2; ++i_0_2_4) {
    for (int j_0_2_4 = 0; j_0_2_4 < 2; ++j_0_2_4) {
      int cse_v17 = (j_0_2_4 * 256);
      int cse_v36 = ((i_0_2_4 * 256) + (((int)threadIdx.x) * 8));
      int cse_v37 = ((j_0_2_4 * 256) + (((int)threadIdx.x) * 8));
      int cse_v47 = (((i_0_2_4 * 512) + (j_0_2_4 * 256)) + (((int)threadIdx.x) * 8));

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + ((i_0_2_4 * 16) + (j_0_2_4 * 8))))[0]), "=f"(((float *)(C_warp_ptr + ((i_0_2_4 * 16) + (j_0_2_4 * 8))))[1]), "=f"(((float *)(C_warp_ptr + ((i_0_2_4 * 16) + (j_0_2_4 * 8))))[2]), "=f"(((float *)(C_warp_ptr + ((i_0_2_4 * 16) + (j_0_2_4 * 8))))[3])
      : "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_4 * 256) + (((int)threadIdx.x) * 8))))[0]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_4 * 256) + (((int)threadIdx.x) * 8))))[1]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_4 * 256) + (((int)threadIdx.x) * 8))))[2]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_4 * 256) + (((int)threadIdx.x) * 8))))[3]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + ((j_0_2_4 * 256) + (((int)threadIdx.x) * 8))))[0]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + ((j_0_2_4 * 256) + (((int)threadIdx.x) * 8))))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2_4 * 16) + (j_0_2_4 * 8))))[0]), "f"(((float *)(C_warp_ptr + ((i_0_2_4 * 16) + (j_0_2_4 * 8))))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2_4 * 16) + (j_0_2_4 * 8))))[2]), "f"(((float *)(C_warp_ptr + ((i_0_2_4 * 16) + (j_0_2_4 * 8))))[3]));
  }

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + (((i_0_2_4 * 16) + (j_0_2_4 * 8)) + 4)))[0]), "=f"(((float *)(C_warp_ptr + (((i_0_2_4 * 16) + (j_0_2_4 * 8)) + 4)))[1]), "=f"(((float *)(C_warp_ptr + (((i_0_2_4 * 16) + (j_0_2_4 * 8)) + 4)))[2]), "=f"(((float *)(C_warp_ptr + (((i_0_2_4 * 16) + (j_0_2_4 * 8)) + 4)))[3])
      : "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_4 * 256) + (((int)threadIdx.x) * 8))))[0]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_4 * 256) + (((int)threadIdx.x) * 8))))[1]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_4 * 256) + (((int)threadIdx.x) * 8))))[2]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + ((i_0_2_4 * 256) + (((int)threadIdx.x) * 8))))[3]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_4 * 256) + (((int)threadIdx.x) * 8)) + 4)))[0]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_4 * 256) + (((int)threadIdx.x) * 8)) + 4)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2_4 * 16) + (j_0_2_4 * 8)) + 4)))[0]), "f"(((float *)(C_warp_ptr + (((i_0_2_4 * 16) + (j_0_2_4 * 8)) + 4)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2_4 * 16) + (j_0_2_4 * 8)) + 4)))[2]), "f"(((float *)(C_warp_ptr + (((i_0_2_4 * 16) + (j_0_2_4 * 8)) + 4)))[3]));
  }
    }
  }
  for (int i_0_2_5 = 0; i_0_2_5 < 2; ++i_0_2_5) {
    for (int j_0_2_5 = 0; j_0_2_5 < 2; ++j_0_2_5) {
      int cse_v18 = (j_0_2_5 * 256);
      int cse_v38 = ((j_0_2_5 * 256) + (((int)threadIdx.x) * 8));
      int cse_v48 = (((i_0_2_5 * 256) + (((int)threadIdx.x) * 8)) + 512);
      int cse_v49 = (((i_0_2_5 * 512) + (j_0_2_5 * 256)) + (((int)threadIdx.x) * 8));

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + ((i_0_2_5 * 16) + (j_0_2_5 * 8))))[0]), "=f"(((float *)(C_warp_ptr + ((i_0_2_5 * 16) + (j_0_2_5 * 8))))[1]), "=f"(((float *)(C_warp_ptr + ((i_0_2_5 * 16) + (j_0_2_5 * 8))))[2]), "=f"(((float *)(C_warp_ptr + ((i_0_2_5 * 16) + (j_0_2_5 * 8))))[3])
      : "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[2]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[3]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2_5 * 16) + (j_0_2_5 * 8))))[0]), "f"(((float *)(C_warp_ptr + ((i_0_2_5 * 16) + (j_0_2_5 * 8))))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2_5 * 16) + (j_0_2_5 * 8))))[2]), "f"(((float *)(C_warp_ptr + ((i_0_2_5 * 16) + (j_0_2_5 * 8))))[3]));
  }

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + (((i_0_2_5 * 16) + (j_0_2_5 * 8)) + 4)))[0]), "=f"(((float *)(C_warp_ptr + (((i_0_2_5 * 16) + (j_0_2_5 * 8)) + 4)))[1]), "=f"(((float *)(C_warp_ptr + (((i_0_2_5 * 16) + (j_0_2_5 * 8)) + 4)))[2]), "=f"(((float *)(C_warp_ptr + (((i_0_2_5 * 16) + (j_0_2_5 * 8)) + 4)))[3])
      : "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[0]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[1]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[2]), "r"(((unsigned *)(A_shared_dyn_warp_ptr + (((i_0_2_5 * 256) + (((int)threadIdx.x) * 8)) + 512)))[3]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_5 * 256) + (((int)threadIdx.x) * 8)) + 516)))[0]), "r"(((unsigned *)(B_shared_dyn_warp_ptr + (((j_0_2_5 * 256) + (((int)threadIdx.x) * 8)) + 516)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2_5 * 16) + (j_0_2_5 * 8)) + 4)))[0]), "f"(((float *)(C_warp_ptr + (((i_0_2_5 * 16) + (j_0_2_5 * 8)) + 4)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2_5 * 16) + (j_0_2_5 * 8)) + 4)))[2]), "f"(((float *)(C_warp_ptr + (((i_0_2_5 * 16) + (j_0_2_5 * 8)) + 4)))[3]));
  }
    }
  }
  for (int ax0_0_6 = 0; ax0_0_6 < 2; ++ax0_0_6) {
    for (int ax1_0_6 = 0; ax1_0_6 < 2; ++ax1_0_6) {
      for (int local_id = 0; local_id < 8; ++local_id) {
(&(C_ptr[((((((((int)blockIdx.y) * 8192) + ((((int)threadIdx.y) >> 1) * 4096)) + (ax0_0_6 * 2048)) + (((int)blockIdx.x) * 64)) + ((((int)threadIdx.y) & 1) * 32)) + (ax1_0_6 * 16))]))[((((((local_id % 4) / 2) * 8) + (threadIdx.x / 4)) * 128) + ((((local_id / 4) * 8) + ((threadIdx.x % 4) * 2)) + (local_id % 2)))] = C_warp_ptr[((ax0_0_6 * 16) + (ax1_0_6 * 8)) + local_id];
}
;
    }
  }
}

