// ldmatrix, stmatrix and mma. The layouts of fragments are those of the PTX manual, "Matrix fragments for
// mma.m16n8k*": lane = 4 * g + t; a register holds E neighbours (1 of 32 bits, 2 of 16, 4 of 8).
#include <vector>

#include "ptx.h"

namespace ptx {

namespace {

using convc::WARP;

void need_whole_warp(void **operands, const char *name) {
  for (unsigned lane = 0; lane < WARP; ++lane)
    if (!operands[lane]) convc::fail("%s needs 32 lanes; the block ends before lane %u of this warp", name, lane);
}

struct Rows {
  uint32_t **to;
  const uint32_t *values;
  unsigned count;
  bool transposed;
  uint32_t address;
};

// Both directions: lane 8 i + r has the address of row r of matrix i; a lane's register i has elements
// (lane / 4, 2 * (lane % 4)) and the one behind it of matrix i, or of its transpose.
template <bool load>
void move_matrices(void **operands) {
  need_whole_warp(operands, load ? "ldmatrix" : "stmatrix");
  for (unsigned i = 0; i < static_cast<Rows *>(operands[0])->count; ++i) {
    uint16_t *rows[8];
    for (unsigned r = 0; r < 8; ++r)
      rows[r] = reinterpret_cast<uint16_t *>(
          convc::shared_pointer(static_cast<Rows *>(operands[8 * i + r])->address, 16, 16,
                                load ? "ldmatrix" : "stmatrix"));
    for (unsigned lane = 0; lane < WARP; ++lane) {
      auto &own = *static_cast<Rows *>(operands[lane]);
      unsigned g = lane / 4, t = lane % 4 * 2;
      uint16_t &low = own.transposed ? rows[t][g] : rows[g][t];
      uint16_t &high = own.transposed ? rows[t + 1][g] : rows[g][t + 1];
      if (load) {
        *own.to[i] = uint32_t{high} << 16 | low;
      } else {
        low = static_cast<uint16_t>(own.values[i]);
        high = static_cast<uint16_t>(own.values[i] >> 16);
      }
    }
  }
}

unsigned elements(Factor factor) {
  if (factor == Factor::tf32) return 1;
  return factor == Factor::f16 || factor == Factor::bf16 ? 2 : 4;
}

double element(Factor factor, uint32_t bits, unsigned index) {
  switch (factor) {
    case Factor::tf32: return bit_cast<float>(bits & ~0x1FFFu);  // the hardware reads 10 bits of mantissa
    case Factor::f16: return half::of_bits(static_cast<uint16_t>(bits >> 16 * index));
    case Factor::bf16: return nv_bfloat16::of_bits(static_cast<uint16_t>(bits >> 16 * index));
    case Factor::s8: return static_cast<int8_t>(bits >> 8 * index);
    default: return static_cast<uint8_t>(bits >> 8 * index);
  }
}

double sum_in(const Fragments &f, unsigned index) {
  if (f.sum == Sum::f32) return bit_cast<float>(f.c[index]);
  if (f.sum == Sum::s32) return static_cast<int32_t>(f.c[index]);
  return half::of_bits(static_cast<uint16_t>(f.c[index / 2] >> 16 * (index % 2)));
}

void sum_out(Fragments &f, unsigned index, double value) {
  if (f.sum == Sum::f32) f.d[index] = bit_cast<uint32_t>(static_cast<float>(value));
  if (f.sum == Sum::s32) f.d[index] = static_cast<uint32_t>(static_cast<int64_t>(value));
  if (f.sum == Sum::f16) f.d[index / 2] |= uint32_t{half(value).bits} << 16 * (index % 2);
}

// Products are exact in double, their sum is rounded once; hardware keeps fewer bits than double does.
void multiply_warp(void **operands) {
  need_whole_warp(operands, "mma");
  double a[16][32], b[32][8];
  auto lane_of = [&](unsigned lane) -> Fragments & { return *static_cast<Fragments *>(operands[lane]); };
  unsigned e = elements(lane_of(0).factor), depth = 4 * e * lane_of(0).b_count;
  for (unsigned lane = 0; lane < WARP; ++lane) {
    Fragments &f = lane_of(lane);
    unsigned g = lane / 4, t = lane % 4;
    for (unsigned i = 0; i < f.a_count; ++i)
      for (unsigned j = 0; j < e; ++j)
        a[g + i % 2 * 8][t * e + j + i / 2 * 4 * e] = element(f.factor, f.a[i], j);
    for (unsigned i = 0; i < f.b_count; ++i)
      for (unsigned j = 0; j < e; ++j) b[t * e + j + i * 4 * e][g] = element(f.factor, f.b[i], j);
  }
  for (unsigned lane = 0; lane < WARP; ++lane) {
    Fragments &f = lane_of(lane);
    for (unsigned i = 0; i < 4; ++i) {
      unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      double sum = sum_in(f, i);
      for (unsigned k = 0; k < depth; ++k) sum += a[row][k] * b[k][column];
      sum_out(f, i, sum);
    }
  }
}

// An element of a matrix in shared memory without swizzle: 8 rows of 16 bytes, which the descriptor's two strides
// (PTX ISA 9.0, "Asynchronous warpgroup level matrix shared memory layout") repeat along k and along rows.
double shared_element(Factor factor, uint64_t descriptor, unsigned row, unsigned k) {
  if (descriptor >> 49 != 0) convc::fail("wgmma: a descriptor with a base offset or a swizzle");
  unsigned start = (descriptor & 0x3FFF) << 4, along_k = (descriptor >> 16 & 0x3FFF) << 4,
           along_rows = (descriptor >> 32 & 0x3FFF) << 4, e = elements(factor), chunk = 4 * e;
  unsigned offset = start + k / chunk * along_k + row / 8 * along_rows + row % 8 * 16 + k % chunk / e * 4;
  uint32_t bits = *reinterpret_cast<uint32_t *>(convc::shared_pointer(offset, 4, 4, "wgmma"));
  return element(factor, bits, k % e);
}

void multiply_warpgroup(void **operands) {
  auto lane_of = [&](unsigned lane) -> WarpgroupProduct & { return *static_cast<WarpgroupProduct *>(operands[lane]); };
  WarpgroupProduct &first = lane_of(0);
  unsigned depth = 8 * elements(first.factor);
  std::vector<double> a(64 * depth), b(first.columns * depth);
  for (unsigned i = 0; i < 64 * depth; ++i) a[i] = shared_element(first.factor, first.a, i / depth, i % depth);
  for (unsigned i = 0; i < first.columns * depth; ++i)
    b[i] = shared_element(first.factor, first.b, i / depth, i % depth);
  for (unsigned lane = 0; lane < convc::WARPGROUP; ++lane) {
    WarpgroupProduct &own = lane_of(lane);
    if (own.a != first.a || own.b != first.b) convc::fail("wgmma: threads of a warpgroup differ in a descriptor");
    for (unsigned i = 0; i < first.columns / 2; ++i) {
      unsigned row = lane / 32 * 16 + lane % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      double sum = own.add ? *own.sums[i] : 0;
      for (unsigned k = 0; k < depth; ++k) sum += a[row * depth + k] * b[column * depth + k];
      *own.sums[i] = static_cast<float>(sum);
    }
  }
}

}  // namespace

void multiply(WarpgroupProduct &product) {
  convc::collective(convc::WARPGROUP, ~0u, "wgmma", &product, multiply_warpgroup);
}

void load_matrices(uint32_t **to, unsigned count, bool transposed, uint32_t from) {
  Rows own = {to, nullptr, count, transposed, from};
  convc::collective(WARP, ~0u, "ldmatrix", &own, move_matrices<true>);
}

void store_matrices(uint32_t to, const uint32_t *values, unsigned count, bool transposed) {
  Rows own = {nullptr, values, count, transposed, to};
  convc::collective(WARP, ~0u, "stmatrix", &own, move_matrices<false>);
}

void multiply(Fragments &fragments, const char *name) {
  convc::collective(WARP, ~0u, name, &fragments, multiply_warp);
}

}  // namespace ptx
