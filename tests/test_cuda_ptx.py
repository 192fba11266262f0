"""Each PTX instruction and device function of the CUDA emulator, against NumPy."""

import numpy as np
import pytest
from cuda_snippets import kernel, launch

RNG = np.random.default_rng(0)


def bfloat16_bits(values):
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def bfloat16_values(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def mma_source(opcode, per_register, a_registers, b_registers, c_type="float"):
    """One warp multiplies (16, k) by (8, k) transposed; loads as the PTX manual's figures have them."""
    a_load = "".join(
        f"  unsigned a{i} = a[((g + {i % 2 * 8}) * K + {i // 2 * 4 * per_register}) / E + t];\n"
        for i in range(a_registers)
    )
    b_load = "".join(
        f"  unsigned b{i} = b[(g * K + {i * 4 * per_register}) / E + t];\n" for i in range(b_registers)
    )
    names = [f"a{i}" for i in range(a_registers)] + [f"b{i}" for i in range(b_registers)]
    places = [f"%{4 + i}" for i in range(len(names))]
    groups = f"{{{', '.join(places[:a_registers])}}}, {{{', '.join(places[a_registers:])}}}"
    constraint = "f" if c_type == "float" else "r"
    text = f"{opcode} {{%0, %1, %2, %3}}, {groups}, {{%0, %1, %2, %3}};"
    outputs = ", ".join(f'"+{constraint}"(c{i})' for i in range(4))
    inputs = ", ".join(f'"r"({name})' for name in names)
    stores = "".join(f"  c[(g + {i // 2 * 8}) * 8 + 2 * t + {i % 2}] = c{i};\n" for i in range(4))
    loads = "".join(f"  {c_type} c{i} = c[(g + {i // 2 * 8}) * 8 + 2 * t + {i % 2}];\n" for i in range(4))
    return kernel(
        f"  const int E = {per_register}, K = {4 * per_register * b_registers};\n"
        f"  int g = threadIdx.x / 4, t = threadIdx.x % 4;\n{a_load}{b_load}{loads}"
        f'  asm volatile("{text}" : {outputs} : {inputs});\n{stores}',
        f"unsigned* a, unsigned* b, {c_type}* c",
    )


def tf32(values):
    return (values.view(np.uint32) & ~np.uint32(0x1FFF)).view(np.float32)


@pytest.mark.parametrize(
    ("opcode", "dtype", "registers"),
    [
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "f16", (4, 2)),
        ("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", "f16", (2, 1)),
        ("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "bf16", (4, 2)),
        ("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", "tf32", (4, 2)),
        ("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", "s8", (4, 2)),
    ],
)
def test_mma_multiplies_what_its_format_holds(tmp_path, opcode, dtype, registers):
    per_register = {"f16": 2, "bf16": 2, "tf32": 1, "s8": 4}[dtype]
    depth = 4 * per_register * registers[1]
    a, b = RNG.standard_normal((16, depth)).astype("f4"), RNG.standard_normal((8, depth)).astype("f4")
    start = RNG.integers(-9, 9, (16, 8)).astype("i4" if dtype == "s8" else "f4")
    c = start.copy()
    if dtype == "s8":
        stored = [RNG.integers(-128, 128, x.shape).astype(np.int8) for x in (a, b)]
        exact = [x.astype(np.float64) for x in stored]
    elif dtype == "bf16":
        stored = [bfloat16_bits(x) for x in (a, b)]
        exact = [bfloat16_values(x).astype(np.float64) for x in stored]
    elif dtype == "tf32":
        stored = [a, b]
        exact = [tf32(x).astype(np.float64) for x in stored]
    else:
        stored = [x.astype(np.float16) for x in (a, b)]
        exact = [x.astype(np.float64) for x in stored]
    source = mma_source(opcode, per_register, *registers, "int" if dtype == "s8" else "float")
    launch(tmp_path, source, (32,), *stored, c)
    wanted = start + exact[0] @ exact[1].T
    assert (abs(c - wanted) <= abs(wanted) * np.finfo(np.float32).eps / 2).all()


def test_mma_with_half_sums_rounds_them_once(tmp_path):
    text = "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%8, %9};"
    inputs = ", ".join(f'"r"({v})' for v in ("a[0]", "a[1]", "a[2]", "a[3]", "b[0]", "b[1]", "0", "0"))
    source = kernel(
        "  unsigned l = threadIdx.x, d0, d1; a += 4 * l; b += 2 * l;\n"
        f'  asm volatile("{text}" : "=r"(d0), "=r"(d1) : {inputs});\n  c[2 * l] = d0; c[2 * l + 1] = d1;',
        "unsigned* a, unsigned* b, unsigned* c",
    )
    # all elements equal: every layout is the same, and the sum of 16 products shows its rounding
    a, b = np.full((32, 8), 1.0009766, np.float16), np.full((32, 4), 1.0009766, np.float16)
    c = np.zeros((32, 4), np.float16)
    launch(tmp_path, source, (32,), a, b, c)
    assert (c == np.float16(16 * np.float64(a[0, 0]) * np.float64(b[0, 0]))).all()


@pytest.mark.parametrize(("count", "transposed"), [(1, False), (2, True), (4, False), (4, True)])
def test_ldmatrix_and_stmatrix_agree_with_the_manual(tmp_path, count, transposed):
    kind = f"x{count}{'.trans' if transposed else ''}"
    registers = ", ".join(f"%{i}" for i in range(count))
    outputs = ", ".join(f'"=r"(r[{i}])' for i in range(count))
    source = kernel(
        "  __shared__ __align__(16) unsigned short m[4 * 64], w[4 * 64];\n"
        "  for (int i = threadIdx.x; i < 256; i += 32) m[i] = a[i];\n"
        "  __syncwarp();\n"
        "  unsigned r[4], from = (unsigned)__cvta_generic_to_shared(m + 8 * threadIdx.x);\n"
        f'  asm volatile("ldmatrix.sync.aligned.m8n8.{kind}.shared.b16 {{{registers}}}, [%{count}];"\n'
        f'               : {outputs} : "r"(from));\n'
        f"  for (int i = 0; i < {count}; ++i) b[i * 32 + threadIdx.x] = r[i];\n"
        "  unsigned to = (unsigned)__cvta_generic_to_shared(w + 8 * threadIdx.x);\n"
        f'  asm volatile("stmatrix.sync.aligned.m8n8.{kind}.shared.b16 [%0], '
        f'{{{", ".join(f"%{i + 1}" for i in range(count))}}};"\n'
        f'               :: "r"(to), {", ".join(f""""r"(r[{i}])""" for i in range(count))});\n'
        "  __syncwarp();\n"
        f"  for (int i = threadIdx.x; i < {64 * count}; i += 32) c[i] = w[i];",
        "unsigned short* a, unsigned* b, unsigned short* c",
    )
    a = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    b, c = np.zeros((count, 32), np.uint32), np.zeros((count, 8, 8), np.uint16)
    launch(tmp_path, source, (32,), a, b, c)
    matrices = a[:count].transpose(0, 2, 1) if transposed else a[:count]
    # lane 4 g + t holds elements (g, 2 t) and (g, 2 t + 1)
    assert (b.view(np.uint16).reshape(count, 8, 8) == matrices).all()
    assert (c == a[:count]).all()


COPY = """
  extern __shared__ __align__(16) float s[];
  int t = threadIdx.x;
  unsigned to = (unsigned)__cvta_generic_to_shared(s + 4 * t);
  asm volatile("{\\n .reg .pred p;\\n setp.ne.b32 p, %3, 0;\\n"
               " @p cp.async.cg.shared.global [%0], [%1], %2;\\n"
               " @!p st.shared.v4.u32 [%0], {%4, %4, %4, %4};\\n}\\n"
               :: "r"(to), "l"(a + 4 * t), "n"(16), "r"((int)(t % 2 == 0)), "r"(0));
  asm volatile("cp.async.commit_group;");
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  for (int i = 0; i < 4; ++i) b[4 * t + i] = s[4 * t + i];
"""


def test_a_copy_whose_predicate_is_false_gives_zeros(tmp_path):
    a, b = RNG.standard_normal((32, 4)).astype(np.float32), np.ones((32, 4), np.float32)
    launch(tmp_path, kernel(COPY, "float* a, float* b"), (32,), a, b, shared=512)
    assert (b[::2] == a[::2]).all()
    assert (b[1::2] == 0).all()


def test_a_copy_has_not_arrived_before_the_wait_for_its_group(tmp_path):
    a, b = RNG.standard_normal((32, 4)).astype(np.float32), np.ones((32, 4), np.float32)
    source = kernel(COPY.replace("wait_group 0", "wait_group 1"), "float* a, float* b")
    launch(tmp_path, source, (32,), a, b, shared=512)
    assert np.isnan(b[::2]).all()


def test_a_copy_with_a_source_size_fills_up_with_zeros(tmp_path):
    body = """
  __shared__ __align__(16) float s[4];
  unsigned to = (unsigned)__cvta_generic_to_shared(s);
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" :: "r"(to), "l"(a), "r"(8));
  asm volatile("cp.async.wait_all;");
  for (int i = 0; i < 4; ++i) b[i] = s[i];
"""
    a, b = np.arange(1, 5, dtype=np.float32), np.ones(4, np.float32)
    launch(tmp_path, kernel(body, "float* a, float* b"), (1,), a, b)
    assert b.tolist() == [1, 2, 0, 0]


def test_tf32_conversion_rounds_half_away(tmp_path):
    body = (
        '  unsigned r; asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(a[threadIdx.x])); b[threadIdx.x] = r;'
    )
    a = np.array([1 + 2**-11, 1 + 2**-12, -1 - 2**-11, 3.0], np.float32)
    b = np.zeros(4, np.float32)
    launch(tmp_path, kernel(body, "float* a, unsigned* b"), (4,), a, b)
    assert b.tolist() == [1 + 2**-10, 1, -1 - 2**-10, 3]


def test_shuffles_and_votes(tmp_path):
    body = """
  int t = threadIdx.x;
  a[t] = __shfl_sync(0xffffffff, t, 5);
  a[32 + t] = __shfl_up_sync(0xffffffff, t, 2, 8);
  a[64 + t] = __shfl_down_sync(__activemask(), t, 3);
  a[96 + t] = __shfl_xor_sync(0xffffffff, t, 16);
  a[128 + t] = __ballot_sync(0xffffffff, t % 3 == 0);
  if (t < 16) a[160 + t] = __shfl_xor_sync(0x0000ffff, t, 1);
  else a[160 + t] = __any_sync(0xffff0000, t == 3);
"""
    a = np.zeros((6, 32), np.int32)
    launch(tmp_path, kernel(body, "int* a"), (32,), a)
    t = np.arange(32)
    assert (a[0] == 5).all()
    assert (a[1] == np.where(t % 8 < 2, t, t - 2)).all()
    assert (a[2] == np.where(t + 3 > 31, t, t + 3)).all()
    assert (a[3] == t ^ 16).all()
    assert (a[4] == sum(1 << i for i in range(0, 32, 3))).all()
    assert (a[5] == np.where(t < 16, t ^ 1, 0)).all()


def test_half_and_bfloat16_round_each_operation(tmp_path):
    body = """
  int t = threadIdx.x;
  c[t] = a[t] * b[t] + a[t];
  d[t] = __hfma(a[t], b[t], a[t]);
  nv_bfloat16 x = (nv_bfloat16)((float)a[t]), y = __float2bfloat16_rn((float)b[t]);
  e[t] = x * y + x;
"""
    a, b = (RNG.standard_normal(64).astype(np.float16) for _ in "ab")
    c, d, e = np.zeros_like(a), np.zeros_like(a), np.zeros(64, np.uint16)
    launch(tmp_path, kernel(body, "half* a, half* b, half* c, half* d, nv_bfloat16* e"), (64,), a, b, c, d, e)
    assert (c == a * b + a).all()
    assert (d == (a.astype(np.float64) * b.astype(np.float64) + a).astype(np.float16)).all()
    x, y = (bfloat16_values(bfloat16_bits(v.astype(np.float32))) for v in (a, b))
    product = bfloat16_values(bfloat16_bits(x * y))
    assert (e == bfloat16_bits(product + x)).all()


def test_scopes_labels_and_special_registers_of_inline_assembly(tmp_path):
    body = """
  unsigned r = a[threadIdx.x];
  asm volatile("{\\n .reg .pred p; .reg .u32 count, %%lane;\\n mov.u32 %%lane, %%laneid; mov.u32 count, 3;\\n"
               "AGAIN: // adds the lane three times\\n add.u32 %0, %0, %%lane;\\n sub.u32 count, count, 1;\\n"
               " setp.ne.u32 p, count, 0;\\n @p bra AGAIN;\\n}\\n" : "+r"(r));
  a[threadIdx.x] = r;
"""
    a = np.full(32, 100, np.uint32)
    launch(tmp_path, kernel(body, "unsigned* a"), (32,), a)
    assert (a == 100 + 3 * np.arange(32)).all()
