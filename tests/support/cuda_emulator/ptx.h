// PTX instructions as functions: results first, by reference, then sources, in PTX's order. Which text calls
// which of them is in ../cuda_ptx.py. Addresses of shared memory are 32 bits, others 64.
#pragma once

#include "narrow.h"

namespace ptx {

using convc::bit_cast;

// --- asynchronous copies ---

inline void cp_async(uint32_t to, uint64_t from, uint32_t bytes) {
  convc::copy_async(to, from, bytes, bytes, "cp.async");
}
inline void cp_async(uint32_t to, uint64_t from, uint32_t bytes, uint32_t valid) {
  convc::copy_async(to, from, bytes, valid, "cp.async");
}
inline void cp_async_commit_group() { convc::commit_copies(); }
inline void cp_async_wait_group(uint32_t pending) { convc::wait_copies(pending); }
inline void cp_async_wait_all() { convc::wait_all_copies(); }

// --- plain memory ---

template <class T, class... Registers>
void load_shared(uint32_t from, Registers &...to) {
  auto *p = reinterpret_cast<const T *>(
      convc::shared_pointer(from, sizeof(T) * sizeof...(to), sizeof(T) * sizeof...(to), "ld.shared"));
  ((to = bit_cast<Registers>(*p++)), ...);
}
template <class T, class... Registers>
void store_shared(uint32_t to, Registers... values) {
  auto *p = reinterpret_cast<T *>(convc::shared_pointer(to, sizeof(T) * sizeof...(values),
                                                        sizeof(T) * sizeof...(values), "st.shared"));
  ((*p++ = bit_cast<T>(values)), ...);
}
template <class T, class... Registers>
void load_global(uint64_t from, Registers &...to) {
  auto *p = static_cast<const T *>(convc::global_pointer(from, sizeof(T) * sizeof...(to), "ld.global"));
  ((to = bit_cast<Registers>(*p++)), ...);
}
template <class T, class... Registers>
void store_global(uint64_t to, Registers... values) {
  auto *p = static_cast<T *>(convc::global_pointer(to, sizeof(T) * sizeof...(values), "st.global"));
  ((*p++ = bit_cast<T>(values)), ...);
}

// PTX writes the results of loads before the address.
template <class R>
void ld_shared_1(R &a, uint32_t from) { load_shared<R>(from, a); }
template <class R>
void ld_shared_2(R &a, R &b, uint32_t from) { load_shared<R>(from, a, b); }
template <class R>
void ld_shared_4(R &a, R &b, R &c, R &d, uint32_t from) { load_shared<R>(from, a, b, c, d); }
template <class... R>
void st_shared(uint32_t to, R... values) {
  store_shared<std::common_type_t<R...>>(to, values...);
}
template <class R>
void ld_global_1(R &a, uint64_t from) { load_global<R>(from, a); }
template <class R>
void ld_global_2(R &a, R &b, uint64_t from) { load_global<R>(from, a, b); }
template <class R>
void ld_global_4(R &a, R &b, R &c, R &d, uint64_t from) { load_global<R>(from, a, b, c, d); }
template <class... R>
void st_global(uint64_t to, R... values) {
  store_global<std::common_type_t<R...>>(to, values...);
}

// --- matrices of a warp: matrix.cc ---

void load_matrices(uint32_t **to, unsigned count, bool transposed, uint32_t from);
void store_matrices(uint32_t to, const uint32_t *values, unsigned count, bool transposed);
template <bool transposed>
void ldmatrix(uint32_t &a, uint32_t from) {
  uint32_t *to[] = {&a};
  load_matrices(to, 1, transposed, from);
}
template <bool transposed>
void ldmatrix(uint32_t &a, uint32_t &b, uint32_t from) {
  uint32_t *to[] = {&a, &b};
  load_matrices(to, 2, transposed, from);
}
template <bool transposed>
void ldmatrix(uint32_t &a, uint32_t &b, uint32_t &c, uint32_t &d, uint32_t from) {
  uint32_t *to[] = {&a, &b, &c, &d};
  load_matrices(to, 4, transposed, from);
}
template <bool transposed, class... R>
void stmatrix(uint32_t to, R... values) {
  uint32_t all[] = {values...};
  store_matrices(to, all, sizeof...(values), transposed);
}

enum class Factor { f16, bf16, tf32, s8, u8 };
enum class Sum { f32, f16, s32 };

// Operands of one lane: registers of A (m16 x k), B (k x n8), C and D (m16 x n8).
struct Fragments {
  Factor factor;
  Sum sum;
  unsigned a_count, b_count, c_count;
  uint32_t a[4], b[2], c[4], d[4];
};
void multiply(Fragments &fragments, const char *name);

// The registers in PTX's order: D, A, B, C. Float accumulators come as float, all others as 32 bits.
template <Factor factor, Sum sum, unsigned AS, unsigned BS, class... Registers>
void mma(Registers &&...registers) {
  constexpr unsigned CS = sum == Sum::f16 ? 2 : 4;
  static_assert(sizeof...(registers) == AS + BS + 2 * CS);
  Fragments f = {factor, sum, AS, BS, CS, {}, {}, {}, {}};
  unsigned i = 0;
  (
      [&](auto value) {
        uint32_t bits = bit_cast<uint32_t>(value);
        if (i >= CS && i < CS + AS) f.a[i - CS] = bits;
        if (i >= CS + AS && i < CS + AS + BS) f.b[i - CS - AS] = bits;
        if (i >= CS + AS + BS) f.c[i - CS - AS - BS] = bits;
        ++i;
      }(registers),
      ...);
  multiply(f, "mma.sync");
  i = 0;
  (
      [&](auto &value) {
        if (i < CS) value = bit_cast<std::decay_t<decltype(value)>>(f.d[i]);
        ++i;
      }(registers),
      ...);
}

// What a thread gives to a product of its warpgroup: its sums, in place, and two matrices in shared memory.
struct WarpgroupProduct {
  Factor factor;
  unsigned columns;
  uint64_t a, b;
  bool add;
  float *sums[128];
};
void multiply(WarpgroupProduct &product);

template <Factor factor, unsigned N, class... Rest>
void wgmma(Rest &&...operands) {
  WarpgroupProduct product = {factor, N, 0, 0, false, {}};
  unsigned i = 0;
  (
      [&](auto &&value) {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, float>) product.sums[i] = &value;
        else if (i == N / 2) product.a = uint64_t(value);
        else if (i == N / 2 + 1) product.b = uint64_t(value);
        else if (i == N / 2 + 2) product.add = bool(value);
        else if (i < N / 2 + 5 && uint64_t(value) != 1) convc::fail("wgmma: operands with a changed sign");
        else if (i >= N / 2 + 5 && uint64_t(value) != 0) convc::fail("wgmma: transposed operands");
        ++i;
      }(operands),
      ...);
  multiply(product);
}

// --- conversions and arithmetic ---

inline void cvt_rna_tf32(uint32_t &to, float from) {
  uint32_t bits = bit_cast<uint32_t>(from);
  to = (from != from || std::isinf(from)) ? bits : (bits + 0x1000) & ~0x1FFFu;
}
inline void cvt_f16x2(uint32_t &to, float high, float low) { to = __pack_half2(half(low), half(high)); }
inline void cvt_bf16x2(uint32_t &to, float high, float low) {
  to = __pack_nv_bfloat162(nv_bfloat16(low), nv_bfloat16(high));
}
inline void cvt_f16(uint16_t &to, float from) { to = half(from).bits; }
inline void cvt_bf16(uint16_t &to, float from) { to = nv_bfloat16(from).bits; }
inline void cvt_f32_f16(float &to, uint16_t from) { to = half::of_bits(from); }
inline void cvt_f32_bf16(float &to, uint16_t from) { to = nv_bfloat16::of_bits(from); }
inline void cvta_to_shared(uint64_t &to, uint64_t from) {
  to = convc::shared_address(reinterpret_cast<const void *>(from));
}
template <class To, class From>
void move(To &to, From from) { to = static_cast<To>(from); }
inline void ex2(float &to, float x) { to = exp2f(x); }
inline void lg2(float &to, float x) { to = log2f(x); }
inline void rcp(float &to, float x) { to = 1 / x; }
inline void rsqrt(float &to, float x) { to = rsqrtf(x); }
inline void tanh(float &to, float x) { to = tanhf(x); }
inline void fma_f32(float &to, float a, float b, float c) { to = fmaf(a, b, c); }
inline void hfma2(uint32_t &to, uint32_t a, uint32_t b, uint32_t c) {
  to = bit_cast<uint32_t>(__hfma2(bit_cast<half2>(a), bit_cast<half2>(b), bit_cast<half2>(c)));
}
template <class T>
void add(T &to, T a, T b) { to = a + b; }
template <class T>
void sub(T &to, T a, T b) { to = a - b; }
template <class T>
void mul(T &to, T a, T b) { to = a * b; }
inline void set_eq(bool &to, uint32_t a, uint32_t b) { to = a == b; }
inline void set_ne(bool &to, uint32_t a, uint32_t b) { to = a != b; }
template <class T>
void select(T &to, T a, T b, bool first) { to = first ? a : b; }

// --- synchronisation ---

inline void nothing() {}
inline void nothing(uint32_t) {}
inline void nothing_at(uint64_t) {}
inline void bar_sync(uint32_t id) { convc::barrier(id, 0, id ? "bar.sync" : "__syncthreads"); }
inline void bar_sync(uint32_t id, uint32_t count) { convc::barrier(id, count, "bar.sync"); }
inline void bar_warp_sync(uint32_t mask) { __syncwarp(mask); }

}  // namespace ptx
