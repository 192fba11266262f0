// CUDA's functions of half and bfloat16.
#pragma once

#include "device.h"

inline half __float2half(float x) { return x; }
inline half __float2half_rn(float x) { return x; }
inline half __double2half(double x) { return x; }
inline float __half2float(half x) { return x; }
inline half __int2half_rn(int x) { return x; }
inline int __half2int_rz(half x) { return static_cast<int>(float(x)); }
inline half __ushort_as_half(unsigned short x) { return half::of_bits(x); }
inline unsigned short __half_as_ushort(half x) { return x.bits; }
inline half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline half2 __float22half2_rn(float2 x) { return {x.x, x.y}; }
inline float2 __half22float2(half2 x) { return {x.x, x.y}; }
inline half2 __halves2half2(half x, half y) { return {x, y}; }
inline half2 __half2half2(half x) { return {x, x}; }
inline half2 __float2half2_rn(float x) { return {x, x}; }
inline half __low2half(half2 x) { return x.x; }
inline half __high2half(half2 x) { return x.y; }
inline float __low2float(half2 x) { return x.x; }
inline float __high2float(half2 x) { return x.y; }
inline nv_bfloat16 __float2bfloat16(float x) { return x; }
inline nv_bfloat16 __float2bfloat16_rn(float x) { return x; }
inline float __bfloat162float(nv_bfloat16 x) { return x; }
inline nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return nv_bfloat16::of_bits(x); }
inline unsigned short __bfloat16_as_ushort(nv_bfloat16 x) { return x.bits; }
inline nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline nv_bfloat162 __float22bfloat162_rn(float2 x) { return {x.x, x.y}; }
inline float2 __bfloat1622float2(nv_bfloat162 x) { return {x.x, x.y}; }
inline nv_bfloat162 __halves2bfloat162(nv_bfloat16 x, nv_bfloat16 y) { return {x, y}; }
inline nv_bfloat162 __bfloat162bfloat162(nv_bfloat16 x) { return {x, x}; }
inline float __low2float(nv_bfloat162 x) { return x.x; }
inline float __high2float(nv_bfloat162 x) { return x.y; }

#define CONVC_UNARY(name, expression)                                                               \
  inline half name(half a) {                                                                        \
    double x = float(a);                                                                            \
    return half(static_cast<double>(expression));                                                   \
  }                                                                                                 \
  inline nv_bfloat16 name(nv_bfloat16 a) {                                                          \
    double x = float(a);                                                                            \
    return nv_bfloat16(static_cast<double>(expression));                                            \
  }
CONVC_UNARY(hexp, exp(x))
CONVC_UNARY(hexp2, exp2(x))
CONVC_UNARY(hexp10, exp10(x))
CONVC_UNARY(hlog, log(x))
CONVC_UNARY(hlog2, log2(x))
CONVC_UNARY(hlog10, log10(x))
CONVC_UNARY(hsqrt, sqrt(x))
CONVC_UNARY(hrsqrt, 1 / sqrt(x))
CONVC_UNARY(hrcp, 1 / x)
CONVC_UNARY(hsin, sin(x))
CONVC_UNARY(hcos, cos(x))
CONVC_UNARY(htan, tan(x))
CONVC_UNARY(hatan, atan(x))
CONVC_UNARY(htanh, tanh(x))
CONVC_UNARY(htanh_approx, tanh(x))
CONVC_UNARY(herf, erf(x))
CONVC_UNARY(hfloor, floor(x))
CONVC_UNARY(hceil, ceil(x))
CONVC_UNARY(hrint, nearbyint(x))
CONVC_UNARY(htrunc, trunc(x))
CONVC_UNARY(hround, round(x))
CONVC_UNARY(__habs, fabs(x))
CONVC_UNARY(__hneg, -x)
#undef CONVC_UNARY

#define CONVC_BINARY(T, P, name, result, expression)                                                \
  inline result name(T a, T b) { return expression; }
#define CONVC_PAIRWISE(T, P, name)                                                                  \
  inline P name##2(P a, P b) { return P(name(a.x, b.x), name(a.y, b.y)); }
#define CONVC_ARITHMETIC(T, P)                                                                      \
  CONVC_BINARY(T, P, __hadd, T, a + b)                                                              \
  CONVC_BINARY(T, P, __hsub, T, a - b)                                                              \
  CONVC_BINARY(T, P, __hmul, T, a * b)                                                              \
  CONVC_BINARY(T, P, __hdiv, T, a / b)                                                              \
  CONVC_BINARY(T, P, __hmax, T, fmaxf(a, b))                                                        \
  CONVC_BINARY(T, P, __hmin, T, fminf(a, b))                                                        \
  CONVC_BINARY(T, P, hpow, T, powf(a, b))                                                           \
  CONVC_BINARY(T, P, __hlt, bool, a < b)                                                            \
  CONVC_BINARY(T, P, __hgt, bool, a > b)                                                            \
  CONVC_BINARY(T, P, __hle, bool, a <= b)                                                           \
  CONVC_BINARY(T, P, __hge, bool, a >= b)                                                           \
  CONVC_BINARY(T, P, __heq, bool, a == b)                                                           \
  CONVC_BINARY(T, P, __hne, bool, a != b)                                                           \
  CONVC_PAIRWISE(T, P, __hadd)                                                                      \
  CONVC_PAIRWISE(T, P, __hsub)                                                                      \
  CONVC_PAIRWISE(T, P, __hmul)                                                                      \
  CONVC_PAIRWISE(T, P, __hmax)                                                                      \
  CONVC_PAIRWISE(T, P, __hmin)                                                                      \
  /* the product of two is exact in double, and the sum loses less than the last rounding does */   \
  inline T __hfma(T a, T b, T c) { return T(fma(double(float(a)), double(float(b)), double(float(c)))); } \
  inline T __hfma_relu(T a, T b, T c) { return __hmax(__hfma(a, b, c), T(0.0f)); }                  \
  inline P __hfma2(P a, P b, P c) { return P(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)); }       \
  inline P operator+(P a, P b) { return __hadd2(a, b); }                                            \
  inline P operator-(P a, P b) { return __hsub2(a, b); }                                            \
  inline P operator*(P a, P b) { return __hmul2(a, b); }                                            \
  inline bool __hisnan(T a) { return std::isnan(float(a)); }
CONVC_ARITHMETIC(half, half2)
CONVC_ARITHMETIC(nv_bfloat16, nv_bfloat162)
#undef CONVC_ARITHMETIC
#undef CONVC_PAIRWISE
#undef CONVC_BINARY
