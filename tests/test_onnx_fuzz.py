"""Models damaged at random: the importer must accept them or say what is wrong, and never crash."""

from __future__ import annotations

import random
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from hostile_models import hostile
from onnx import numpy_helper
from onnx_suite import arrays_of, node_tests

from convc.errors import ConvcError
from convc.frontends.onnx import read
from convc.frontends.onnx.handlers import supported

MODELS = 40
"""Damaged models in each test; a wider search is a matter of changing this number."""


@lru_cache(maxsize=1)
def sources() -> list[tuple[onnx.ModelProto, list[np.ndarray]]]:
    """Node tests of the ONNX suite whose operators convc has, with their inputs."""
    known = set(supported())
    return [
        (test.model, arrays_of(test))
        for test in node_tests().values()
        if all(n.op_type in known for n in test.model.graph.node) and test.model.ByteSize() < 100_000
    ]


INTEGERS = (0, -1, -5, 3, 7, 100, 1 << 40, -(1 << 63))


def build_in(rng: random.Random, model: onnx.ModelProto, arrays: list[np.ndarray]) -> None:
    """Turn some inputs into weights, most of the vectors among them."""
    for info, array in zip(model.graph.input, arrays, strict=False):
        if array.dtype.kind in "iufb" and rng.random() < (0.9 if array.ndim <= 1 else 0.3):
            model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), info.name))


def damage_attribute(rng: random.Random, node: onnx.NodeProto) -> None:
    """Remove an attribute, or change its kind, number, text or list."""
    if not node.attribute:
        return
    index = rng.randrange(len(node.attribute))
    attribute = node.attribute[index]
    kind = rng.randrange(4)
    if kind == 0:
        del node.attribute[index]
    elif kind == 1:
        attribute.type = rng.choice([1, 2, 3, 4, 6, 7, 8])
    elif attribute.type == onnx.AttributeProto.INTS:
        values = [*attribute.ints, rng.choice(INTEGERS)]
        rng.shuffle(values)
        del attribute.ints[:]
        attribute.ints.extend(values[: rng.choice([len(values), len(values) - 1, len(values) - 2])])
    else:
        attribute.i = rng.choice(INTEGERS)
        attribute.f = rng.choice([0.0, -1.0, float("nan"), float("inf"), 1e30])
        attribute.s = rng.choice([b"", b"SAME_UPPER", b"x", b"\xff\xfe"])


def damage_names(rng: random.Random, node: onnx.NodeProto) -> None:
    """Let a node read or write something else, or be something else."""
    kind = rng.randrange(4)
    if kind == 0 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(["", "nothing", node.output[0]])
    elif kind == 1 and node.input:
        del node.input[rng.randrange(len(node.input))]
    elif kind == 2:
        node.output[0] = rng.choice(["", *node.input])
    else:
        node.op_type = rng.choice(supported())


def damage_types(rng: random.Random, model: onnx.ModelProto) -> None:
    """Change an input's dtype or shape, a weight's shape, or the opset."""
    kind, graph = rng.randrange(4), model.graph
    if kind == 0:
        model.opset_import[0].version = rng.choice([6, 7, 9, 10, 11, 13, 18, 21, 25, 99])
    elif kind == 1 and graph.input:
        rng.choice(graph.input).type.tensor_type.elem_type = rng.choice([0, 1, 2, 6, 7, 8, 9, 10, 11, 16, 99])
    elif kind == 2 and graph.input:
        dims = rng.choice(graph.input).type.tensor_type.shape.dim
        if dims:
            rng.choice(dims).dim_value = rng.choice([0, -1, 1, 2, 7, 64])
            del dims[rng.randrange(len(dims) + 1) :]
    elif graph.initializer:
        rng.choice(graph.initializer).dims.append(rng.choice([1, 2, -1]))


@pytest.mark.parametrize("seed", range(12))
def test_damaged_models_never_crash_the_importer(seed: int) -> None:
    rng = random.Random(seed)
    refusals: list[str] = []
    for _ in range(MODELS):
        source, arrays = rng.choice(sources())
        model = onnx.ModelProto()
        model.CopyFrom(source)
        build_in(rng, model, arrays)
        for _ in range(rng.choice([1, 1, 2])):
            node = rng.choice(model.graph.node)
            rng.choice([
                lambda node=node: damage_attribute(rng, node),
                lambda node=node: damage_names(rng, node),
                lambda model=model: damage_types(rng, model),
            ])()  # fmt: skip
        try:
            read(model, notice=lambda message: None)
        except ConvcError as error:
            refusals.append(str(error))
    assert all(message and "\n" not in message for message in refusals)
    assert MODELS // 4 <= len(refusals) < MODELS  # else it damages too little, or everything


# ---- drawn at random

SEEDS = 100
"""Of models in each run; a wider search is `python tests/support/hostile_models.py FIRST COUNT`."""


def test_models_drawn_from_all_kinds_are_imported_or_refused() -> None:
    """In a child with limits of memory and time, which ends it where an import does not."""
    script = Path(__file__).parent / "support" / "hostile_models.py"
    done = subprocess.run([sys.executable, "-P", script, "0", str(SEEDS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.splitlines()[-1:]
    *faults, counts = done.stdout.splitlines()
    assert faults == []
    imported, refused, _ = (int(part.split()[0]) for part in counts.split(", "))
    assert imported + refused == SEEDS
    assert min(imported, refused) >= SEEDS // 8  # else the edits damage nothing, or everything


def test_the_kinds_do_not_depend_on_the_machine() -> None:
    assert hostile(7) == hostile(7)
    assert len({hostile(seed) for seed in range(20)}) == 20
