// CUDA's vector types, half and bfloat16: each operation is rounded to its type, to nearest even.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulonglong = unsigned long long;
using longlong = long long;

#define CONVC_VECTORS(T, name, align2, align3, align4)                                 \
  struct name##1 { T x; };                                                             \
  struct alignas(align2) name##2 { T x, y; };                                          \
  struct name##3 { T x, y, z; };                                                       \
  struct alignas(align4) name##4 { T x, y, z, w; };                                    \
  inline name##1 make_##name##1(T x) { return {x}; }                                   \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                           \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                   \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CONVC_VECTORS(signed char, char, 2, 1, 4)
CONVC_VECTORS(unsigned char, uchar, 2, 1, 4)
CONVC_VECTORS(short, short, 4, 2, 8)
CONVC_VECTORS(unsigned short, ushort, 4, 2, 8)
CONVC_VECTORS(int, int, 8, 4, 16)
CONVC_VECTORS(float, float, 8, 4, 16)
CONVC_VECTORS(long long, longlong, 16, 8, 16)
CONVC_VECTORS(unsigned long long, ulonglong, 16, 8, 16)
CONVC_VECTORS(double, double, 16, 8, 16)
#undef CONVC_VECTORS

struct uint1 { unsigned x; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline uint1 make_uint1(unsigned x) { return {x}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace convc {

#if defined(__aarch64__)
using float16 = __fp16;
#else
using float16 = _Float16;
#endif

template <class To, class From>
To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

struct HalfFormat {
  static float widen(uint16_t bits) { return static_cast<float>(bit_cast<float16>(bits)); }
  static uint16_t round(float value) { return bit_cast<uint16_t>(static_cast<float16>(value)); }
  static uint16_t round(double value) { return bit_cast<uint16_t>(static_cast<float16>(value)); }
};

struct Bfloat16Format {
  static float widen(uint16_t bits) { return bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
  static uint16_t round(float value) {
    if (value != value) return 0x7FFF;
    uint32_t bits = bit_cast<uint32_t>(value);
    return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
  }
  // Through a float that is rounded to odd, so that no value is rounded twice.
  static uint16_t round(double value) {
    float near = static_cast<float>(value);
    if (near == value || near != near || std::isinf(near)) return round(near);
    uint32_t bits = bit_cast<uint32_t>(near);
    if (!(bits & 1)) bits += (std::fabs(near) < std::fabs(value)) ? 1 : -1;
    return round(bit_cast<float>(bits));
  }
};

// A float of 16 bits. One operation in float (24 bits) and a second rounding give what one rounding would:
// for +, -, *, / and roots 24 >= 2 * 11 + 2 suffices.
template <class Format>
struct Narrow {
  uint16_t bits;

  Narrow() = default;
  Narrow(float value) : bits(Format::round(value)) {}
  Narrow(double value) : bits(Format::round(value)) {}
  Narrow(int value) : bits(Format::round(static_cast<double>(value))) {}
  Narrow(unsigned value) : bits(Format::round(static_cast<double>(value))) {}
  Narrow(long value) : bits(Format::round(static_cast<double>(value))) {}
  Narrow(long long value) : bits(Format::round(static_cast<double>(value))) {}
  Narrow(bool value) : bits(Format::round(value ? 1.0f : 0.0f)) {}
  static Narrow of_bits(uint16_t bits) {
    Narrow made;
    made.bits = bits;
    return made;
  }

  operator float() const { return Format::widen(bits); }

  friend Narrow operator+(Narrow a, Narrow b) { return float(a) + float(b); }
  friend Narrow operator-(Narrow a, Narrow b) { return float(a) - float(b); }
  friend Narrow operator*(Narrow a, Narrow b) { return float(a) * float(b); }
  friend Narrow operator/(Narrow a, Narrow b) { return float(a) / float(b); }
  friend Narrow operator-(Narrow a) { return of_bits(a.bits ^ 0x8000); }
  friend Narrow operator+(Narrow a) { return a; }
  friend bool operator<(Narrow a, Narrow b) { return float(a) < float(b); }
  friend bool operator>(Narrow a, Narrow b) { return float(a) > float(b); }
  friend bool operator<=(Narrow a, Narrow b) { return float(a) <= float(b); }
  friend bool operator>=(Narrow a, Narrow b) { return float(a) >= float(b); }
  friend bool operator==(Narrow a, Narrow b) { return float(a) == float(b); }
  friend bool operator!=(Narrow a, Narrow b) { return float(a) != float(b); }
  Narrow &operator+=(Narrow b) { return *this = *this + b; }
  Narrow &operator-=(Narrow b) { return *this = *this - b; }
  Narrow &operator*=(Narrow b) { return *this = *this * b; }
  Narrow &operator/=(Narrow b) { return *this = *this / b; }
};

template <class T>
struct alignas(4) Pair {
  T x, y;
  Pair() = default;
  Pair(T x, T y) : x(x), y(y) {}
};

template <class T>
struct alignas(8) Quadruple {
  T x, y, z, w;
  Quadruple() = default;
  Quadruple(T x, T y, T z, T w) : x(x), y(y), z(z), w(w) {}
};

}  // namespace convc

using half = convc::Narrow<convc::HalfFormat>;
using __half = half;
using half2 = convc::Pair<half>;
using __half2 = half2;
using half4 = convc::Quadruple<half>;
using nv_bfloat16 = convc::Narrow<convc::Bfloat16Format>;
using __nv_bfloat16 = nv_bfloat16;
using nv_bfloat162 = convc::Pair<nv_bfloat16>;
using __nv_bfloat162 = nv_bfloat162;
using nv_bfloat164 = convc::Quadruple<nv_bfloat16>;
inline half2 make_half2(half x, half y) { return {x, y}; }
inline half4 make_half4(half x, half y, half z, half w) { return {x, y, z, w}; }
inline nv_bfloat162 make_nv_bfloat162(nv_bfloat16 x, nv_bfloat16 y) { return {x, y}; }
inline nv_bfloat162 make_bfloat162(nv_bfloat16 x, nv_bfloat16 y) { return {x, y}; }
inline nv_bfloat164 make_nv_bfloat164(nv_bfloat16 x, nv_bfloat16 y, nv_bfloat16 z, nv_bfloat16 w) {
  return {x, y, z, w};
}
inline unsigned __pack_half2(half x, half y) { return unsigned{y.bits} << 16 | x.bits; }
inline unsigned __pack_nv_bfloat162(nv_bfloat16 x, nv_bfloat16 y) { return unsigned{y.bits} << 16 | x.bits; }
