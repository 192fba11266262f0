// The functions that CUDA offers to device code. Approximate ones (__expf) are computed exactly.
#pragma once

#include "runtime.h"
#include "types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __cluster_dims__(...)

// --- threads and warps ---------------------------------------------------------------------------------------

inline void __syncthreads() { convc::barrier(0, 0, "__syncthreads"); }
inline unsigned __activemask() { return convc::active_lanes(); }
inline void __syncwarp(unsigned mask = ~0u) {
  convc::collective(convc::WARP, mask, "__syncwarp", nullptr, [](void **) {});
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {}

namespace convc {

// What each lane gives, and then what it takes; `from` is the lane that it takes it from.
template <class T>
T shuffle(unsigned mask, const char *name, T value, unsigned from) {
  struct Lane {
    T value, taken;
    unsigned from;
  } own = {value, value, from};
  collective(WARP, mask, name, &own, [](void **operands) {
    for (unsigned i = 0; i < WARP; ++i) {
      auto *lane = static_cast<Lane *>(operands[i]);
      if (!lane) continue;
      auto *giver = static_cast<Lane *>(operands[lane->from]);
      if (giver)
        lane->taken = giver->value;
      else
        poison(&lane->taken, sizeof lane->taken);  // of a lane that takes no part: undefined
    }
  });
  return own.taken;
}

template <class T>
T voted(unsigned mask, const char *name, unsigned predicate, T (*of)(unsigned ballot, unsigned all)) {
  struct Lane {
    unsigned predicate, ballot, all;
  } own = {predicate, 0, 0};
  collective(WARP, mask, name, &own, [](void **operands) {
    unsigned ballot = 0, all = 0;
    for (unsigned i = 0; i < WARP; ++i)
      if (auto *lane = static_cast<Lane *>(operands[i]); lane) {
        all |= 1u << i;
        ballot |= (lane->predicate ? 1u : 0u) << i;
      }
    for (unsigned i = 0; i < WARP; ++i)
      if (auto *lane = static_cast<Lane *>(operands[i]); lane) *lane = {0, ballot, all};
  });
  return of(own.ballot, own.all);
}

inline unsigned lane_id() { return current->linear % WARP; }

}  // namespace convc

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  unsigned lane = convc::lane_id();
  return convc::shuffle(mask, "__shfl_sync", value, (lane & ~(width - 1)) | (from & (width - 1)));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  unsigned lane = convc::lane_id();
  bool inside = (lane & (width - 1)) >= delta;
  return convc::shuffle(mask, "__shfl_up_sync", value, inside ? lane - delta : lane);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  unsigned lane = convc::lane_id();
  bool inside = (lane & (width - 1)) + delta < unsigned(width);
  return convc::shuffle(mask, "__shfl_down_sync", value, inside ? lane + delta : lane);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  unsigned lane = convc::lane_id(), from = lane ^ bits;
  bool inside = (from & ~(width - 1)) <= (lane & ~(width - 1));
  return convc::shuffle(mask, "__shfl_xor_sync", value, inside ? from & 31 : lane);
}
inline unsigned __ballot_sync(unsigned mask, int p) {
  return convc::voted<unsigned>(mask, "__ballot_sync", p, [](unsigned b, unsigned) { return b; });
}
inline int __any_sync(unsigned mask, int p) {
  return convc::voted<int>(mask, "__any_sync", p, [](unsigned b, unsigned) { return int(b != 0); });
}
inline int __all_sync(unsigned mask, int p) {
  return convc::voted<int>(mask, "__all_sync", p, [](unsigned b, unsigned all) { return int(b == all); });
}

// --- memory --------------------------------------------------------------------------------------------------

inline size_t __cvta_generic_to_shared(const void *pointer) { return convc::shared_address(pointer); }
inline size_t __cvta_generic_to_global(const void *pointer) { return reinterpret_cast<size_t>(pointer); }
template <class T>
T __ldg(const T *pointer) { return *pointer; }
template <class T>
T __ldcg(const T *pointer) { return *pointer; }
template <class T>
T __ldcs(const T *pointer) { return *pointer; }
template <class T>
void __stcs(T *pointer, T value) { *pointer = value; }

// One fiber runs at a time and no instruction is cut in two.
template <class T, class U>
T atomicAdd(T *place, U value) {
  T before = *place;
  *place = before + static_cast<T>(value);
  return before;
}
template <class T, class U>
T atomicMax(T *place, U value) {
  T before = *place;
  if (before < static_cast<T>(value)) *place = static_cast<T>(value);
  return before;
}
template <class T, class U>
T atomicMin(T *place, U value) {
  T before = *place;
  if (static_cast<T>(value) < before) *place = static_cast<T>(value);
  return before;
}
template <class T>
T atomicExch(T *place, T value) {
  T before = *place;
  *place = value;
  return before;
}
template <class T>
T atomicCAS(T *place, T expected, T value) {
  T before = *place;
  if (before == expected) *place = value;
  return before;
}

// --- arithmetic ----------------------------------------------------------------------------------------------

using std::isfinite, std::isinf, std::isnan;
template <class T>
T max(T a, T b) { return a < b ? b : a; }
template <class T>
T min(T a, T b) { return b < a ? b : a; }
// A NaN gives the other operand, as in hardware.
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
// What TVM defines in its own prelude, comparisons included.
inline half max(half a, half b) { return a > b ? a : b; }
inline half min(half a, half b) { return a < b ? a : b; }
inline nv_bfloat16 max(nv_bfloat16 a, nv_bfloat16 b) { return a > b ? a : b; }
inline nv_bfloat16 min(nv_bfloat16 a, nv_bfloat16 b) { return a < b ? a : b; }

inline float rsqrtf(float x) { return static_cast<float>(1 / sqrt(static_cast<double>(x))); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return exp10f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
inline float __int_as_float(int x) { return convc::bit_cast<float>(x); }
// math_constants.h
#define CUDART_INF_F convc::bit_cast<float>(0x7f800000u)
#define CUDART_NAN_F convc::bit_cast<float>(0x7fffffffu)
#define CUDART_INF convc::bit_cast<double>(0x7ff0000000000000ull)
#define CUDART_NAN convc::bit_cast<double>(0xfff8000000000000ull)

inline double __longlong_as_double(long long x) { return convc::bit_cast<double>(x); }
inline long long __double_as_longlong(double x) { return convc::bit_cast<long long>(x); }
inline int __float_as_int(float x) { return convc::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return convc::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return convc::bit_cast<unsigned>(x); }
inline int __mul24(int x, int y) { return x * y; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  uint64_t both = uint64_t{y} << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= unsigned(both >> (selector >> 4 * i & 7) * 8 & 0xFF) << 8 * i;
  return result;
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += int(int8_t(a >> 8 * i)) * int(int8_t(b >> 8 * i));
  return c;
}
