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
extern "C" __global__ void __launch_bounds__(128) main_kernel(half* __restrict__ A_ptr, half* __restrict__ B_ptr, float* __restrict__ C_ptr);
extern "C" __global__ void __launch_bounds__(128) main_kernel(half* __restrict__ A_ptr, half* __restrict__ B_ptr, float* __restrict__ C_ptr) {
  alignas(64) float C_warp_ptr[32];
  __shared__ alignas(64) half A_shared_ptr[2560];
  __shared__ alignas(64) half B_shared_ptr[2304];
  alignas(64) half A_shared_warp_ptr[512];
  alignas(64) half B_shared_warp_ptr[512];
  for (int i_0_2_init = 0; i_0_2_init < 2; ++i_0_2_init) {
    for (int j_0_2_init = 0; j_0_2_init < 2; ++j_0_2_init) {
      for (int i = 0; i < 8; ++i) {
C_warp_ptr[((i_0_2_init * 16) + (j_0_2_init * 8)) + i] = 0.0;}
;
    }
  }
  int cse_v3 = (((int)blockIdx.x) * 64);
  int cse_v5 = (((int)threadIdx.y) >> 1);
  int cse_v11 = ((((int)threadIdx.y) & 1) * 32);
  for (int k_0_0 = 0; k_0_0 < 8; ++k_0_0) {
    __syncthreads();
    for (int ax0_ax1_fused_0 = 0; ax0_ax1_fused_0 < 2; ++ax0_ax1_fused_0) {
      int cse_v1 = (((int)threadIdx.x) >> 2);
      int cse_v8 = ((((int)threadIdx.x) & 3) * 8);
      *(uint4*)(A_shared_ptr + ((((ax0_ax1_fused_0 * 1280) + (((int)threadIdx.y) * 320)) + ((((int)threadIdx.x) >> 2) * 40)) + ((((int)threadIdx.x) & 3) * 8))) = *(uint4*)(A_ptr + ((((((((int)blockIdx.y) * 16384) + (ax0_ax1_fused_0 * 8192)) + (((int)threadIdx.y) * 2048)) + ((((int)threadIdx.x) >> 2) * 256)) + (k_0_0 * 32)) + ((((int)threadIdx.x) & 3) * 8)));
    }
    for (int ax0_ax1_fused_0_1 = 0; ax0_ax1_fused_0_1 < 2; ++ax0_ax1_fused_0_1) {
      int cse_v2 = (((int)threadIdx.x) >> 3);
      int cse_v9 = ((((int)threadIdx.x) & 7) * 8);
      *(uint4*)(B_shared_ptr + ((((ax0_ax1_fused_0_1 * 1152) + (((int)threadIdx.y) * 288)) + ((((int)threadIdx.x) >> 3) * 72)) + ((((int)threadIdx.x) & 7) * 8))) = *(uint4*)(B_ptr + ((((((k_0_0 * 4096) + (ax0_ax1_fused_0_1 * 2048)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 3) * 128)) + (((int)blockIdx.x) * 64)) + ((((int)threadIdx.x) & 7) * 8)));
    }
    __syncthreads();
    for (int k_0_1 = 0; k_0_1 < 2; ++k_0_1) {
      int cse_v4 = (((int)threadIdx.x) * 8);
      int cse_v6 = (((int)threadIdx.x) & 15);
      int cse_v10 = ((((int)threadIdx.x) >> 4) * 8);
      for (int ax0_0 = 0; ax0_0 < 2; ++ax0_0) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(A_shared_ptr[((((((int)threadIdx.y) >> 1) * 1280) + (ax0_0 * 640)) + (k_0_1 * 16))])) + (((((int)threadIdx.x) & 15) * 40) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(A_shared_warp_ptr + ((ax0_0 * 256) + (((int)threadIdx.x) * 8))))[0]), "=r"(((unsigned *)(A_shared_warp_ptr + ((ax0_0 * 256) + (((int)threadIdx.x) * 8))))[1]), "=r"(((unsigned *)(A_shared_warp_ptr + ((ax0_0 * 256) + (((int)threadIdx.x) * 8))))[2]), "=r"(((unsigned *)(A_shared_warp_ptr + ((ax0_0 * 256) + (((int)threadIdx.x) * 8))))[3])
      : "r"(addr)
    );
  }
      }
      for (int ax1_0 = 0; ax1_0 < 2; ++ax1_0) {

  {
    unsigned int addr = __cvta_generic_to_shared((&(B_shared_ptr[(((k_0_1 * 1152) + ((((int)threadIdx.y) & 1) * 32)) + (ax1_0 * 16))])) + (((((int)threadIdx.x) & 15) * 72) + ((((int)threadIdx.x) >> 4) * 8)));
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"
      "{%0, %1, %2, %3}, [%4];\n"
      : "=r"(((unsigned *)(B_shared_warp_ptr + ((ax1_0 * 256) + (((int)threadIdx.x) * 8))))[0]), "=r"(((unsigned *)(B_shared_warp_ptr + ((ax1_0 * 256) + (((int)threadIdx.x) * 8))))[1]), "=r"(((unsigned *)(B_shared_warp_ptr + ((ax1_0 * 256) + (((int)threadIdx.x) * 8))))[2]), "=r"(((unsigned *)(B_shared_warp_ptr + ((ax1_0 * 256) + (((int)threadIdx.x) * 8))))[3])
      : "r"(addr)
    );
  }
      }
      for (int i_0_2 = 0; i_0_2 < 2; ++i_0_2) {
        for (int j_0_2 = 0; j_0_2 < 2; ++j_0_2) {
          int cse_v7 = (j_0_2 * 256);
          int cse_v12 = ((i_0_2 * 256) + (((int)threadIdx.x) * 8));
          int cse_v13 = ((j_0_2 * 256) + (((int)threadIdx.x) * 8));
          int cse_v14 = (((i_0_2 * 512) + (j_0_2 * 256)) + (((int)threadIdx.x) * 8));

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[0]), "=f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[1]), "=f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[2]), "=f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[3])
      : "r"(((unsigned *)(A_shared_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[0]), "r"(((unsigned *)(A_shared_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[1]), "r"(((unsigned *)(A_shared_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[2]), "r"(((unsigned *)(A_shared_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[3]), "r"(((unsigned *)(B_shared_warp_ptr + ((j_0_2 * 256) + (((int)threadIdx.x) * 8))))[0]), "r"(((unsigned *)(B_shared_warp_ptr + ((j_0_2 * 256) + (((int)threadIdx.x) * 8))))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[0]), "f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[1]), "f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[2]), "f"(((float *)(C_warp_ptr + ((i_0_2 * 16) + (j_0_2 * 8))))[3]));
  }

  {
    __asm__ __volatile__(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\n"
      :  "=f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[0]), "=f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[1]), "=f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[2]), "=f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[3])
      : "r"(((unsigned *)(A_shared_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[0]), "r"(((unsigned *)(A_shared_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[1]), "r"(((unsigned *)(A_shared_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[2]), "r"(((unsigned *)(A_shared_warp_ptr + ((i_0_2 * 256) + (((int)threadIdx.x) * 8))))[3]), "r"(((unsigned *)(B_shared_warp_ptr + (((j_0_2 * 256) + (((int)threadIdx.x) * 8)) + 4)))[0]), "r"(((unsigned *)(B_shared_warp_ptr + (((j_0_2 * 256) + (((int)threadIdx.x) * 8)) + 4)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[0]), "f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[1]), "f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[2]), "f"(((float *)(C_warp_ptr + (((i_0_2 * 16) + (j_0_2 * 8)) + 4)))[3]));
  }
        }
      }
    }
  }
  for (int ax0_0_1 = 0; ax0_0_1 < 2; ++ax0_0_1) {
    for (int ax1_0_1 = 0; ax1_0_1 < 2; ++ax1_0_1) {
      for (int local_id = 0; local_id < 8; ++local_id) {
(&(C_ptr[((((((((int)blockIdx.y) * 8192) + ((((int)threadIdx.y) >> 1) * 4096)) + (ax0_0_1 * 2048)) + (((int)blockIdx.x) * 64)) + ((((int)threadIdx.y) & 1) * 32)) + (ax1_0_1 * 16))]))[((((((local_id % 4) / 2) * 8) + (threadIdx.x / 4)) * 128) + ((((local_id / 4) * 8) + ((threadIdx.x % 4) * 2)) + (local_id % 2)))] = C_warp_ptr[((ax0_0_1 * 16) + (ax1_0_1 * 8)) + local_id];
}
;
    }
  }
}

