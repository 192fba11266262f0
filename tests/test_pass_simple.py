"""Constant folding, dead code, identities, common subexpressions, outputs made apart."""

from __future__ import annotations

import numpy as np
import pytest
from pass_checks import check_pass, check_refused, check_untouched, graph_of

from convc.ir import verify
from convc.passes.fold_constants import FoldConstants
from convc.passes.merge_common import MergeCommon
from convc.passes.remove_dead_code import RemoveDeadCode
from convc.passes.remove_identities import RemoveIdentities
from convc.passes.separate_outputs import SeparateOutputs

# ---- constant folding


def test_folds_chains_and_keeps_names():
    check_pass(
        FoldConstants(),
        """
        input %x : float32[2,2]
        const %c : float32[2] = [1.0, 4.0]
        const %i : int64[1] = [1]
        %root : float32[2] = sqrt(%c) from "Sqrt_0"
        %pick : float32[1] = gather(%root, %i)
        %y : float32[2,2] = add(%x, %pick) from "Add_0"
        output %y
        """,
        """
        input %x : float32[2,2]
        const %c : float32[2] = [1.0, 4.0]
        const %i : int64[1] = [1]
        const %root : float32[2] = [1.0, 2.0]
        const %pick : float32[1] = [2.0]
        %y : float32[2,2] = add(%x, %pick) from "Add_0"
        output %y
        """,
        exact=True,
    )


def test_folds_epilogues_scalars_and_several_outputs():
    check_pass(
        FoldConstants(),
        """
        const %c : float32[3] = [1.0, 2.0, 3.0]
        const %s : float32[] = [10.0]
        %a : float32[1], %b : float32[2] = split(%c) {axis=0, sizes=(1, 2)}
        %t : float32[] = neg(%s) | mul(., %s)
        output %b as "out"
        output %t
        """,
        """
        const %c : float32[3] = [1.0, 2.0, 3.0]
        const %s : float32[] = [10.0]
        const %a : float32[1] = [1.0]
        const %b : float32[2] = [2.0, 3.0]
        const %t : float32[] = [-100.0]
        output %b as "out"
        output %t
        """,
        exact=True,
    )


def test_folding_computes_in_float64_and_rounds_once():
    graph = graph_of(
        """
        const %c : float32[3] = [1e8, 1.0, -1e8]
        %sum : float32[1] = reduce_sum(%c) {axes=(0,)}
        output %sum
        """
    )
    FoldConstants().run(graph)
    value = graph.outputs[0]
    assert graph.constant(value) == np.float32([1.0])  # float32 gives 0
    assert value.type.dtype == "float32"


def test_folding_refuses_to_explode():
    text = """
    const %one : float32[1] = [1.0]
    %many : float32[4096,2048] = expand(%one) {shape=(4096, 2048)} from "Expand_7"
    output %many
    """
    check_refused(FoldConstants(), text, "folding expand would add 31 MiB of constants .the limit is 16 MiB")
    assert FoldConstants(growth_limit=1 << 26).run(graph_of(text))


def test_changes_name_the_layers_of_the_model():
    graph = graph_of('const %c : float32[1] = [4.0]\n%r : float32[1] = sqrt(%c) from "Sqrt_0"\noutput %r')
    (change,) = FoldConstants().run(graph)
    assert str(change) == "r (from Sqrt_0): sqrt of constants computed, float32[1]"


# ---- dead code


def test_dead_nodes_go_with_their_constants():
    check_pass(
        RemoveDeadCode(),
        """
        input %x : float32[2]
        const %used : float32[1] = [1.0]
        const %unused : float32[1] = [2.0]
        const %dead : float32[1] = [3.0]
        %y : float32[2] = add(%x, %used)
        %a : float32[2] = mul(%x, %dead)
        %b : float32[2] = relu(%a)
        output %y
        """,
        """
        input %x : float32[2]
        const %used : float32[1] = [1.0]
        %y : float32[2] = add(%x, %used)
        output %y
        """,
        exact=True,
    )


def test_a_node_lives_by_any_output_and_inputs_stay():
    check_untouched(
        RemoveDeadCode(),
        """
        input %x : float32[2]
        input %ignored : float32[2]
        %a : float32[1], %b : float32[1] = split(%x) {axis=0, sizes=(1, 1)}
        output %b
        """,
    )


# ---- identities

IDENTITIES = [
    "identity(%h)",
    "dropout(%h)",
    "reshape(%h) {shape=(1, 2, 3, 3)}",
    "cast(%h) {dtype='float32'}",
    "concat(%h) {axis=1}",
    "split(%h) {axis=1, sizes=(2,)}",
    "expand(%h) {shape=(3, 3)}",
    "tile(%h) {repeats=(1, 1, 1, 1)}",
    "pad(%h) {pads=((0, 0), (0, 0), (0, 0), (0, 0))}",
    "slice(%h) {starts=(0, 0, 0, 0), stops=(1, 2, 3, 3), steps=(1, 1, 1, 1)}",
    "transpose(%h) {perm=(0, 1, 2, 3)}",
    "clip(%h)",
    "max_pool(%h) {kernel=(1, 1), strides=(1, 1), dilations=(1, 1), pads=((0, 0), (0, 0))}",
    "average_pool(%h) {kernel=(1, 1), strides=(1, 1), dilations=(2, 2), pads=((0, 0), (0, 0))}",
    "depth_to_space(%h) {block=1}",
    "add(%h, %zero)",
    "add(%zero, %h)",
    "sub(%h, %zero)",
    "mul(%one, %h)",
    "div(%h, %one)",
    "pow(%h, %one)",
    "relu(%h)",
]


@pytest.mark.parametrize("call", IDENTITIES)
def test_identities_go(call):
    constants = "const %zero : float32[2,1,1] = [0.0, 0.0]\nconst %one : float32[1] = [1.0]\n"
    text = f"""
    input %x : float32[1,2,3,3]
    {constants}
    %h : float32[1,2,3,3] = relu(%x) from "A"
    %i : float32[1,2,3,3] = {call} from "B"
    %y : float32[1,2,3,3] = neg(%i) from "C"
    output %y
    """
    after = f"""
    input %x : float32[1,2,3,3]
    {constants}
    %h : float32[1,2,3,3] = relu(%x) from "A", "B"
    %y : float32[1,2,3,3] = neg(%h) from "C"
    output %y
    """
    check_pass(
        RemoveIdentities(), text, "\n".join(line for line in after.splitlines() if line.strip()), exact=True
    )


NOT_IDENTITIES = [
    "sub(%zero, %h)",
    "div(%one, %h)",
    "add(%h, %one)",
    "mul(%h, %zero)",
    "slice(%h) {starts=(0, 1, 0, 0), stops=(1, -1, 3, 3), steps=(1, -1, 1, 1)}",
    "pad(%h) {pads=((0, 0), (0, 0), (1, -1), (0, 0))}",
    "transpose(%h) {perm=(0, 1, 3, 2)}",
    "clip(%h) {min=0.0}",
    "average_pool(%h) {kernel=(3, 3), strides=(1, 1), dilations=(1, 1), pads=((1, 1), (1, 1))}",
    "exp(%h)",
    "identity(%h) | exp(.)",
]


@pytest.mark.parametrize("call", NOT_IDENTITIES)
def test_near_identities_stay(call):
    check_untouched(
        RemoveIdentities(),
        f"""
        input %h : float32[1,2,3,3]
        const %zero : float32[2,1,1] = [0.0, 0.0]
        const %one : float32[1] = [1.0]
        %i : float32[1,2,3,3] = {call}
        output %i
        """,
    )


@pytest.mark.parametrize(
    ("first", "second", "merges"),
    [
        ("float16", "float32", True),
        ("int32", "float64", True),
        ("bool", "float16", True),
        ("float32", "float16", False),
        ("int32", "float32", False),
        ("int64", "float64", False),
        ("float32", "int64", False),
    ],
)
def test_a_cast_of_a_cast_that_loses_nothing_is_one(first: str, second: str, merges: bool):
    graph = graph_of(
        f"""
        input %x : {first}[3]
        %a : {second}[3] = cast(%x) {{dtype='{second}'}}
        %y : {first}[3] = cast(%a) {{dtype='{first}'}}
        output %y
        """
    )
    RemoveIdentities().run(graph)
    assert len(graph.nodes) == (0 if merges else 2)


def test_an_addition_that_broadcasts_is_no_identity():
    check_untouched(
        RemoveIdentities(),
        """
        input %x : float32[1,3]
        const %zero : float32[2,1] = [0.0, 0.0]
        %y : float32[2,3] = add(%x, %zero)
        output %y
        """,
    )


def test_reshapes_and_transposes_merge():
    check_pass(
        RemoveIdentities(),
        """
        input %x : float32[2,3,4]
        %a : float32[6,4] = reshape(%x) {shape=(6, 4)} from "A"
        %b : float32[4,6] = reshape(%a) {shape=(4, 6)} from "B"
        %c : float32[3,4,2] = transpose(%x) {perm=(1, 2, 0)} from "C"
        %d : float32[2,3,4] = transpose(%c) {perm=(2, 0, 1)} from "D"
        %e : float32[2,4,3] = transpose(%c) {perm=(2, 1, 0)} from "E"
        output %b
        output %d
        output %e
        """,
        """
        input %x : float32[2,3,4]
        %b : float32[4,6] = reshape(%x) {shape=(4, 6)} from "B", "A"
        %e : float32[2,4,3] = transpose(%x) {perm=(0, 2, 1)} from "E", "C"
        output %b
        output %x as "d"
        output %e
        """,
        exact=True,
    )


# ---- common subexpressions


def test_equal_nodes_merge_and_their_readers_after_them():
    check_pass(
        MergeCommon(),
        """
        input %x : float32[2]
        %a : float32[2] = relu(%x) from "A"
        %b : float32[2] = relu(%x) from "B"
        %c : float32[2] = clip(%a) {max=1.0} from "C"
        %d : float32[2] = clip(%b) {max=1.0} from "D"
        %e : float32[2] = clip(%b) {max=2.0} from "E"
        %f : float32[2] = add(%c, %d)
        output %f
        output %e
        """,
        """
        input %x : float32[2]
        %a : float32[2] = relu(%x) from "A", "B"
        %c : float32[2] = clip(%a) {max=1.0} from "C", "D"
        %e : float32[2] = clip(%a) {max=2.0} from "E"
        %f : float32[2] = add(%c, %c)
        output %f
        output %e
        """,
        exact=True,
    )


# ---- outputs


def test_outputs_are_made_apart():
    check_pass(
        SeparateOutputs(),
        """
        input %x : float32[2]
        const %c : float32[1] = [1.0]
        %y : float32[2] = relu(%x) from "A"
        output %y
        output %y as "again"
        output %x as "same"
        output %c
        """,
        """
        input %x : float32[2]
        const %c : float32[1] = [1.0]
        %y : float32[2] = relu(%x) from "A"
        %again : float32[2] = identity(%y) from "A"
        %same : float32[2] = identity(%x)
        %c.1 : float32[1] = identity(%c) name "c"
        output %y
        output %again
        output %same
        output %c.1 as "c"
        """,
        exact=True,
    )


def test_a_copied_input_is_made_once_however_often_the_passes_run():
    graph = graph_of("input %x : float32[2]\n%y : float32[2] = dropout(%x)\noutput %y")
    texts = set()
    for _ in range(3):
        RemoveIdentities().run(graph)
        SeparateOutputs().run(graph)
        verify(graph)
        texts.add(str(graph))
    assert len(texts) == 1
