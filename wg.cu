
#ifdef __CUDACC_RTC__
  #include <cuda/std/cstdint>
  using cuda::std::uint8_t;
  using cuda::std::uint16_t;
  using cuda::std::uint32_t;
  using cuda::std::uint64_t;
  using cuda::std::int8_t;
  using cuda::std::int16_t;
  using cuda::std::int32_t;
  using cuda::std::int64_t;

  #include <cuda/std/type_traits>
  namespace std {
    using cuda::std::is_same;
    using cuda::std::is_same_v;
    using cuda::std::is_integral;
    using cuda::std::is_signed;
    using cuda::std::is_unsigned;
    using cuda::std::is_floating_point;
    using cuda::std::enable_if;
    using cuda::std::conditional;
  }

  // NVRTC uses asm/volatile instead of __asm__/__volatile__ (gcc extension).
  #ifndef __asm__
  #define __asm__ asm
  #endif
  #ifndef __volatile__
  #define __volatile__ volatile
  #endif
#else
  #include <cstdint>
  #include <type_traits>
  #include <cuda.h>
#endif

#if !defined(__CUDA_ARCH__) || (__CUDA_ARCH__ >= 530)
#include <cuda_fp16.h>
__device__ half max(half a, half b)
{
  return __hgt(__half(a), __half(b)) ? a : b;
}
__device__ half min(half a, half b)
{
  return __hlt(__half(a), __half(b)) ? a : b;
}
#endif // __CUDA_ARCH__ >= 530

// Pack two half values.
static inline __device__ __host__ unsigned
__pack_half2(const half x, const half y) {
  unsigned v0 = *((unsigned short *)&x);
  unsigned v1 = *((unsigned short *)&y);
  return (v1 << 16) | v0;
}

#define CUDA_UNSUPPORTED_HALF_MATH_BINARY(HALF_MATH_NAME, FP32_MATH_NAME) \
static inline __device__ __host__ half HALF_MATH_NAME(half x, half y) {   \
  float tmp_x = __half2float(x);                                          \
  float tmp_y = __half2float(y);                                          \
  float result = FP32_MATH_NAME(tmp_x, tmp_y);                            \
  return __float2half(result);                                            \
}

#define CUDA_UNSUPPORTED_HALF_MATH_UNARY(HALF_MATH_NAME, FP32_MATH_NAME) \
static inline __device__ __host__ half HALF_MATH_NAME(half x) {          \
  float tmp_x = __half2float(x);                                         \
  float result = FP32_MATH_NAME(tmp_x);                                  \
  return __float2half(result);                                           \
}

// Some fp16 math functions are not supported in cuda_fp16.h,
// so we define them here to make sure the generated CUDA code
// is valid.
#if defined(__CUDA_ARCH__)
#if (__CUDA_ARCH__ >= 530)
CUDA_UNSUPPORTED_HALF_MATH_BINARY(hpow, powf)
#if ((__CUDACC_VER_MAJOR__ < 12) || ((__CUDACC_VER_MAJOR__ == 12) && (__CUDACC_VER_MINOR__ < 8)))
CUDA_UNSUPPORTED_HALF_MATH_UNARY(htanh, tanhf)
#endif
CUDA_UNSUPPORTED_HALF_MATH_UNARY(htan, tanf)
CUDA_UNSUPPORTED_HALF_MATH_UNARY(hatan, atanf)
CUDA_UNSUPPORTED_HALF_MATH_UNARY(herf, erf)
#else
CUDA_UNSUPPORTED_HALF_MATH_UNARY(hexp, exp)
#endif
#endif

#undef CUDA_UNSUPPORTED_HALF_MATH_BINARY
#undef CUDA_UNSUPPORTED_HALF_MATH_UNARY

template <typename T, typename TVec2>
struct __align__(8) half4_bfloat164 {
  T x, y, z, w;
  __host__ __device__ half4_bfloat164() : x(T(0)), y(T(0)), z(T(0)), w(T(0)) {}
  __host__ __device__ half4_bfloat164(T x, T y, T z, T w) : x(x), y(y), z(z), w(w) {}

};

using half4 = half4_bfloat164<__half, __half2>;
__host__ __device__ half4 make_half4(__half x, __half y, __half z, __half w) {
    return half4(x, y, z, w);
}

#if (((__CUDACC_VER_MAJOR__ == 11) && (__CUDACC_VER_MINOR__ >= 4)) || \
     (__CUDACC_VER_MAJOR__ > 11))
#define TVM_ENABLE_L2_PREFETCH 1
#else
#define TVM_ENABLE_L2_PREFETCH 0
#endif

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

__forceinline__ __device__ void ptx_cp_async_legacy_pred_cg_16_2_2(void* dst, int dst_off, void* src, int src_off, int predicate) {
  uint8_t* dst_p = (uint8_t*)dst + dst_off * 2;
  uint8_t* src_p = (uint8_t*)src + src_off * 2;
  unsigned int dst_addr = __cvta_generic_to_shared(dst_p);
  __asm__ __volatile__(
    "{\n"
    " .reg .pred p;\n"
    " setp.eq.u32 p, %3, 1;\n"
    " @p cp.async.cg.shared.global [%0], [%1], %2;\n"
    " @!p st.shared.v4.u32 [%0], {%4, %4, %4, %4};\n"
    "}\n"
    :: "r"(dst_addr), "l"(src_p), "n"(16), "r"(predicate), "r"(0)
  );
}
/* Device functions that convc's tensor intrinsics call (schedules/cuda/fragments.py), each a few PTX instructions.
 *
 * A fragment is what one thread holds of a matrix that its warp works on; see the PTX ISA 9.0, sections
 * "Warp Level Matrix Multiply-Accumulate Instructions" for mma.m16n8k16 and mma.m16n8k8, and ldmatrix.
 */
template <typename T>
__device__ __forceinline__ void convc_ldmatrix_x4(T *fragment, const T *base, int offset) {
  unsigned *r = (unsigned *)fragment;
  unsigned address = (unsigned)__cvta_generic_to_shared(base + offset);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

template <typename T>
__device__ __forceinline__ void convc_mma_float16(float *c, const T *a_, const T *b_) {
  const unsigned *a = (const unsigned *)a_, *b = (const unsigned *)b_;
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <typename T>
__device__ __forceinline__ void convc_mma_bfloat16(float *c, const T *a_, const T *b_) {
  const unsigned *a = (const unsigned *)a_, *b = (const unsigned *)b_;
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <typename T>
__device__ __forceinline__ void convc_mma_float32(float *c, const T *a_, const T *b_) {
  const unsigned *a = (const unsigned *)a_, *b = (const unsigned *)b_;
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

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
/* What threads wrote, by copies too, has to be made visible to the tensor cores' own way to memory. */
__device__ __forceinline__ void convc_warpgroup_begin() {
  asm volatile("fence.proxy.async;" : : : "memory");
  asm volatile("wgmma.fence.sync.aligned;" : : : "memory");
}
__device__ __forceinline__ void convc_warpgroup_end() {
  asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory");
  asm volatile("wgmma.wait_group.sync.aligned 0;" : : : "memory");
}

template <int CHUNKS, typename T>
__device__ __forceinline__ void convc_wgmma_float16_n256(float *c, const T *a, int a_rows, const T *b,
                                                               int b_rows) {
  convc_warpgroup_begin();
#pragma unroll
  for (int i = 0; i < CHUNKS; i += 2)
    asm volatile("{.reg .pred p; setp.ne.b32 p, %130, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, %128, %129, p, 1, 1, 0, 0;}"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]), "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]), "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]), "+f"(c[32]), "+f"(c[33]), "+f"(c[34]), "+f"(c[35]), "+f"(c[36]), "+f"(c[37]), "+f"(c[38]), "+f"(c[39]), "+f"(c[40]), "+f"(c[41]), "+f"(c[42]), "+f"(c[43]), "+f"(c[44]), "+f"(c[45]), "+f"(c[46]), "+f"(c[47]), "+f"(c[48]), "+f"(c[49]), "+f"(c[50]), "+f"(c[51]), "+f"(c[52]), "+f"(c[53]), "+f"(c[54]), "+f"(c[55]), "+f"(c[56]), "+f"(c[57]), "+f"(c[58]), "+f"(c[59]), "+f"(c[60]), "+f"(c[61]), "+f"(c[62]), "+f"(c[63]), "+f"(c[64]), "+f"(c[65]), "+f"(c[66]), "+f"(c[67]), "+f"(c[68]), "+f"(c[69]), "+f"(c[70]), "+f"(c[71]), "+f"(c[72]), "+f"(c[73]), "+f"(c[74]), "+f"(c[75]), "+f"(c[76]), "+f"(c[77]), "+f"(c[78]), "+f"(c[79]), "+f"(c[80]), "+f"(c[81]), "+f"(c[82]), "+f"(c[83]), "+f"(c[84]), "+f"(c[85]), "+f"(c[86]), "+f"(c[87]), "+f"(c[88]), "+f"(c[89]), "+f"(c[90]), "+f"(c[91]), "+f"(c[92]), "+f"(c[93]), "+f"(c[94]), "+f"(c[95]), "+f"(c[96]), "+f"(c[97]), "+f"(c[98]), "+f"(c[99]), "+f"(c[100]), "+f"(c[101]), "+f"(c[102]), "+f"(c[103]), "+f"(c[104]), "+f"(c[105]), "+f"(c[106]), "+f"(c[107]), "+f"(c[108]), "+f"(c[109]), "+f"(c[110]), "+f"(c[111]), "+f"(c[112]), "+f"(c[113]), "+f"(c[114]), "+f"(c[115]), "+f"(c[116]), "+f"(c[117]), "+f"(c[118]), "+f"(c[119]), "+f"(c[120]), "+f"(c[121]), "+f"(c[122]), "+f"(c[123]), "+f"(c[124]), "+f"(c[125]), "+f"(c[126]), "+f"(c[127])
                 : "l"(convc_matrix(a, i, a_rows)), "l"(convc_matrix(b, i, b_rows)), "r"(1));
  convc_warpgroup_end();
}
extern "C" __global__ void __launch_bounds__(256) k_kernel(float* __restrict__ product_rf_ptr, half* __restrict__ w_ptr, half* __restrict__ x_ptr);
extern "C" __global__ void __launch_bounds__(256) k_kernel_1(float* __restrict__ bias_ptr, half* __restrict__ output_ptr, float* __restrict__ product_rf_ptr);
extern "C" __global__ void __launch_bounds__(256) k_kernel(float* __restrict__ product_rf_ptr, half* __restrict__ w_ptr, half* __restrict__ x_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float product_rf_warp_ptr[128];
  *(float4*)(product_rf_warp_ptr + 0) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 4) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 8) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 12) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 16) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 20) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 24) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 28) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 32) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 36) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 40) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 44) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 48) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 52) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 56) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 60) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 64) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 68) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 72) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 76) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 80) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 84) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 88) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 92) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 96) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 100) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 104) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 108) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 112) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 116) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 120) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_rf_warp_ptr + 124) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  for (int ax1_ax2_fused_0 = 0; ax1_ax2_fused_0 < 4; ++ax1_ax2_fused_0) {
    ptx_cp_async_legacy_pred_cg_16_2_2(buf_dyn_shmem_ptr, (((ax1_ax2_fused_0 * 2048) + (((int)threadIdx.y) * 1024)) + (((int)threadIdx.x) * 8)), x_ptr, ((((((((((int)blockIdx.x) * 32) + (((int)threadIdx.x) >> 2)) / 49) * 50176) + (((((((int)blockIdx.z) * 144) + (ax1_ax2_fused_0 * 2)) + ((int)threadIdx.y)) & 31) * 1568)) + (((int)blockIdx.z) * 120)) + ((((((int)blockIdx.x) * 128) + ((int)threadIdx.x)) % 196) * 8)) - 120), ((((((int)blockIdx.x) < 49) && (1 <= (((((((int)blockIdx.z) * 144) + (ax1_ax2_fused_0 * 2)) + ((int)threadIdx.y)) / 96) + ((((((int)blockIdx.x) * 64) + (((int)threadIdx.x) >> 1)) % 98) / 7)))) && (1 <= ((((((((int)blockIdx.z) * 144) + (ax1_ax2_fused_0 * 2)) + ((int)threadIdx.y)) % 96) >> 5) + (((((int)blockIdx.x) * 128) + ((int)threadIdx.x)) % 14)))) && (((((((((int)blockIdx.z) * 144) + (ax1_ax2_fused_0 * 2)) + ((int)threadIdx.y)) % 96) >> 5) + (((((int)blockIdx.x) * 128) + ((int)threadIdx.x)) % 14)) < 15)));
  }
  for (int ax1_ax2_fused_0_1 = 0; ax1_ax2_fused_0_1 < 8; ++ax1_ax2_fused_0_1) {
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, ((((ax1_ax2_fused_0_1 * 2048) + (((int)threadIdx.y) * 1024)) + (((int)threadIdx.x) * 8)) + 16384), w_ptr, ((((((int)blockIdx.z) * 294912) + (ax1_ax2_fused_0_1 * 2048)) + (((int)threadIdx.y) * 1024)) + (((int)threadIdx.x) * 8)));
  }
  tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
  for (int ax4_0 = 0; ax4_0 < 17; ++ax4_0) {
    __syncthreads();
    for (int ax1_ax2_fused_0_2 = 0; ax1_ax2_fused_0_2 < 4; ++ax1_ax2_fused_0_2) {
      ptx_cp_async_legacy_pred_cg_16_2_2(buf_dyn_shmem_ptr, ((((((ax4_0 + 1) & 1) * 8192) + (ax1_ax2_fused_0_2 * 2048)) + (((int)threadIdx.y) * 1024)) + (((int)threadIdx.x) * 8)), x_ptr, (((((((((((int)blockIdx.x) * 32) + (((int)threadIdx.x) >> 2)) / 49) * 50176) + (((((((((int)blockIdx.z) * 144) + (ax4_0 * 8)) + (ax1_ax2_fused_0_2 * 2)) + ((int)threadIdx.y)) + 8) & 31) * 1568)) + (((((((((int)blockIdx.z) * 144) + (ax4_0 * 8)) + (ax1_ax2_fused_0_2 * 2)) + ((int)threadIdx.y)) + 8) / 96) * 112)) + ((((((((((int)blockIdx.z) * 144) + (ax4_0 * 8)) + (ax1_ax2_fused_0_2 * 2)) + ((int)threadIdx.y)) + 8) % 96) >> 5) * 8)) + ((((((int)blockIdx.x) * 128) + ((int)threadIdx.x)) % 196) * 8)) - 120), (((((((int)blockIdx.x) < 49) && (1 <= (((((((((int)blockIdx.z) * 144) + (ax4_0 * 8)) + (ax1_ax2_fused_0_2 * 2)) + ((int)threadIdx.y)) + 8) / 96) + ((((((int)blockIdx.x) * 64) + (((int)threadIdx.x) >> 1)) % 98) / 7)))) && ((((((((((int)blockIdx.z) * 144) + (ax4_0 * 8)) + (ax1_ax2_fused_0_2 * 2)) + ((int)threadIdx.y)) + 8) / 96) + ((((((int)blockIdx.x) * 64) + (((int)threadIdx.x) >> 1)) % 98) / 7)) < 15)) && (1 <= ((((((((((int)blockIdx.z) * 144) + (ax4_0 * 8)) + (ax1_ax2_fused_0_2 * 2)) + ((int)threadIdx.y)) + 8) % 96) >> 5) + (((((int)blockIdx.x) * 128) + ((int)threadIdx.x)) % 14)))) && (((((((((((int)blockIdx.z) * 144) + (ax4_0 * 8)) + (ax1_ax2_fused_0_2 * 2)) + ((int)threadIdx.y)) + 8) % 96) >> 5) + (((((int)blockIdx.x) * 128) + ((int)threadIdx.x)) % 14)) < 15)));
    }
    for (int ax1_ax2_fused_0_3 = 0; ax1_ax2_fused_0_3 < 8; ++ax1_ax2_fused_0_3) {
      ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, (((((((ax4_0 + 1) & 1) * 16384) + (ax1_ax2_fused_0_3 * 2048)) + (((int)threadIdx.y) * 1024)) + (((int)threadIdx.x) * 8)) + 16384), w_ptr, ((((((((int)blockIdx.z) * 294912) + (ax4_0 * 16384)) + (ax1_ax2_fused_0_3 * 2048)) + (((int)threadIdx.y) * 1024)) + (((int)threadIdx.x) * 8)) + 16384));
    }
    tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
    tvm_builtin_ptx_cp_async_wait_group_async_wait_group_1();
    __syncthreads();
    convc_wgmma_float16_n256<8>((&(product_rf_warp_ptr[0])), (&(((half*)buf_dyn_shmem_ptr)[(((ax4_0 & 1) * 8192) + (((int)threadIdx.y) * 512))])), 128, (&(((half*)buf_dyn_shmem_ptr)[(((ax4_0 & 1) * 16384) + 16384)])), 256);
  }
  tvm_builtin_ptx_cp_async_wait_group_async_wait_group_0();
  __syncthreads();
  convc_wgmma_float16_n256<8>((&(product_rf_warp_ptr[0])), (&(((half*)buf_dyn_shmem_ptr)[((((int)threadIdx.y) * 512) + 8192)])), 128, (&(((half*)buf_dyn_shmem_ptr)[32768])), 256);
  *(float2*)(product_rf_ptr + (((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2))) = *(float2*)(product_rf_warp_ptr + 0);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 64)) = *(float2*)(product_rf_warp_ptr + 2);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 51200)) = *(float2*)(product_rf_warp_ptr + 4);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 51264)) = *(float2*)(product_rf_warp_ptr + 6);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 102400)) = *(float2*)(product_rf_warp_ptr + 8);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 102464)) = *(float2*)(product_rf_warp_ptr + 10);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 153600)) = *(float2*)(product_rf_warp_ptr + 12);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 153664)) = *(float2*)(product_rf_warp_ptr + 14);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 204800)) = *(float2*)(product_rf_warp_ptr + 16);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 204864)) = *(float2*)(product_rf_warp_ptr + 18);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 256000)) = *(float2*)(product_rf_warp_ptr + 20);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 256064)) = *(float2*)(product_rf_warp_ptr + 22);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 307200)) = *(float2*)(product_rf_warp_ptr + 24);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 307264)) = *(float2*)(product_rf_warp_ptr + 26);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 358400)) = *(float2*)(product_rf_warp_ptr + 28);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 358464)) = *(float2*)(product_rf_warp_ptr + 30);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 409600)) = *(float2*)(product_rf_warp_ptr + 32);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 409664)) = *(float2*)(product_rf_warp_ptr + 34);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 460800)) = *(float2*)(product_rf_warp_ptr + 36);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 460864)) = *(float2*)(product_rf_warp_ptr + 38);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 512000)) = *(float2*)(product_rf_warp_ptr + 40);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 512064)) = *(float2*)(product_rf_warp_ptr + 42);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 563200)) = *(float2*)(product_rf_warp_ptr + 44);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 563264)) = *(float2*)(product_rf_warp_ptr + 46);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 614400)) = *(float2*)(product_rf_warp_ptr + 48);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 614464)) = *(float2*)(product_rf_warp_ptr + 50);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 665600)) = *(float2*)(product_rf_warp_ptr + 52);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 665664)) = *(float2*)(product_rf_warp_ptr + 54);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 716800)) = *(float2*)(product_rf_warp_ptr + 56);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 716864)) = *(float2*)(product_rf_warp_ptr + 58);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 768000)) = *(float2*)(product_rf_warp_ptr + 60);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 768064)) = *(float2*)(product_rf_warp_ptr + 62);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 819200)) = *(float2*)(product_rf_warp_ptr + 64);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 819264)) = *(float2*)(product_rf_warp_ptr + 66);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 870400)) = *(float2*)(product_rf_warp_ptr + 68);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 870464)) = *(float2*)(product_rf_warp_ptr + 70);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 921600)) = *(float2*)(product_rf_warp_ptr + 72);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 921664)) = *(float2*)(product_rf_warp_ptr + 74);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 972800)) = *(float2*)(product_rf_warp_ptr + 76);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 972864)) = *(float2*)(product_rf_warp_ptr + 78);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1024000)) = *(float2*)(product_rf_warp_ptr + 80);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1024064)) = *(float2*)(product_rf_warp_ptr + 82);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1075200)) = *(float2*)(product_rf_warp_ptr + 84);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1075264)) = *(float2*)(product_rf_warp_ptr + 86);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1126400)) = *(float2*)(product_rf_warp_ptr + 88);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1126464)) = *(float2*)(product_rf_warp_ptr + 90);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1177600)) = *(float2*)(product_rf_warp_ptr + 92);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1177664)) = *(float2*)(product_rf_warp_ptr + 94);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1228800)) = *(float2*)(product_rf_warp_ptr + 96);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1228864)) = *(float2*)(product_rf_warp_ptr + 98);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1280000)) = *(float2*)(product_rf_warp_ptr + 100);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1280064)) = *(float2*)(product_rf_warp_ptr + 102);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1331200)) = *(float2*)(product_rf_warp_ptr + 104);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1331264)) = *(float2*)(product_rf_warp_ptr + 106);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1382400)) = *(float2*)(product_rf_warp_ptr + 108);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1382464)) = *(float2*)(product_rf_warp_ptr + 110);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1433600)) = *(float2*)(product_rf_warp_ptr + 112);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1433664)) = *(float2*)(product_rf_warp_ptr + 114);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1484800)) = *(float2*)(product_rf_warp_ptr + 116);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1484864)) = *(float2*)(product_rf_warp_ptr + 118);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1536000)) = *(float2*)(product_rf_warp_ptr + 120);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1536064)) = *(float2*)(product_rf_warp_ptr + 122);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1587200)) = *(float2*)(product_rf_warp_ptr + 124);
  *(float2*)(product_rf_ptr + ((((((((int)blockIdx.z) * 1638400) + (((int)blockIdx.x) * 1024)) + (((int)threadIdx.y) * 512)) + ((((int)threadIdx.x) >> 5) * 128)) + ((((int)threadIdx.x) & 31) * 2)) + 1587264)) = *(float2*)(product_rf_warp_ptr + 126);
}

extern "C" __global__ void __launch_bounds__(256) k_kernel_1(float* __restrict__ bias_ptr, half* __restrict__ output_ptr, float* __restrict__ product_rf_ptr) {
  alignas(64) float product_local_ptr[8];
  *(float4*)(product_local_ptr + 0) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  *(float4*)(product_local_ptr + 4) = make_float4(0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/, 0x0p+0f/*0.000000e+00*/);
  for (int ax0 = 0; ax0 < 2; ++ax0) {
    float4 __1;
      float4 v_ = *(float4*)(product_local_ptr + 0);
      float4 v__1 = *(float4*)(product_rf_ptr + (((ax0 * 1638400) + ((((((int)blockIdx.x) * 2) + (((int)threadIdx.x) >> 7)) / 49) * 51200)) + ((((((int)blockIdx.x) * 256) + ((int)threadIdx.x)) % 6272) * 8)));
      __1.x = (v_.x+v__1.x);
      __1.y = (v_.y+v__1.y);
      __1.z = (v_.z+v__1.z);
      __1.w = (v_.w+v__1.w);
    *(float4*)(product_local_ptr + 0) = __1;
    float4 __2;
      float4 v__2 = *(float4*)(product_local_ptr + 4);
      float4 v__3 = *(float4*)(product_rf_ptr + ((((ax0 * 1638400) + ((((((int)blockIdx.x) * 2) + (((int)threadIdx.x) >> 7)) / 49) * 51200)) + ((((((int)blockIdx.x) * 256) + ((int)threadIdx.x)) % 6272) * 8)) + 4));
      __2.x = (v__2.x+v__3.x);
      __2.y = (v__2.y+v__3.y);
      __2.z = (v__2.z+v__3.z);
      __2.w = (v__2.w+v__3.w);
    *(float4*)(product_local_ptr + 4) = __2;
  }
  half4 __3;
  float4 __4;
    float4 v__4 = *(float4*)(product_local_ptr + 0);
    float4 v__5 = *(float4*)(bias_ptr + ((((((int)blockIdx.x) * 2) + (((int)threadIdx.x) >> 7)) / 49) * 8));
    __4.x = (v__4.x+v__5.x);
    __4.y = (v__4.y+v__5.y);
    __4.z = (v__4.z+v__5.z);
    __4.w = (v__4.w+v__5.w);
  __3.x = (half)(__4.x);
  __3.y = (half)(__4.y);
  __3.z = (half)(__4.z);
  __3.w = (half)(__4.w);
  *(half4*)(output_ptr + (((((((((int)blockIdx.x) * 64) + (((int)threadIdx.x) >> 2)) % 1568) / 49) * 50176) + ((((((int)blockIdx.x) * 2) + (((int)threadIdx.x) >> 7)) / 49) * 1568)) + ((((((int)blockIdx.x) * 256) + ((int)threadIdx.x)) % 196) * 8))) = __3;
  half4 __5;
  float4 __6;
    float4 v__6 = *(float4*)(product_local_ptr + 4);
    float4 v__7 = *(float4*)(bias_ptr + (((((((int)blockIdx.x) * 2) + (((int)threadIdx.x) >> 7)) / 49) * 8) + 4));
    __6.x = (v__6.x+v__7.x);
    __6.y = (v__6.y+v__7.y);
    __6.z = (v__6.z+v__7.z);
    __6.w = (v__6.w+v__7.w);
  __5.x = (half)(__6.x);
  __5.y = (half)(__6.y);
  __5.z = (half)(__6.z);
  __5.w = (half)(__6.w);
  *(half4*)(output_ptr + ((((((((((int)blockIdx.x) * 64) + (((int)threadIdx.x) >> 2)) % 1568) / 49) * 50176) + ((((((int)blockIdx.x) * 2) + (((int)threadIdx.x) >> 7)) / 49) * 1568)) + ((((((int)blockIdx.x) * 256) + ((int)threadIdx.x)) % 196) * 8)) + 4)) = __5;
}

