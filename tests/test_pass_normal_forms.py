"""Batch normalisation that no layer takes in, and gemm's normal form."""

from __future__ import annotations

from pass_checks import NORM, check_pass, check_refused, check_untouched, norm

from convc.passes.lower_batch_norm import LowerBatchNorm
from convc.passes.normalise_linear import NormaliseLinear

# ---- batch normalisation that stays


def test_lone_batch_norm_becomes_arithmetic():
    check_pass(
        LowerBatchNorm(),
        f"""
        input %x : float32[1,2,3,3]
        {NORM}
        %{norm("x", "y")} name "bn" from "Bn_0"
        output %y
        """,
        """
        input %x : float32[1,2,3,3]
        const %gamma : float32[2] = [2.0, 3.0]
        const %beta : float32[2] = [1.0, -1.0]
        const %mean : float32[2] = [0.5, 1.0]
        const %var : float32[2] = [0.75, 3.75]
        const %bn.scale : float32[1,2,1,1] = [2.0, 1.5]
        const %bn.shift : float32[1,2,1,1] = [0.0, -2.5]
        %bn.mul : float32[1,2,3,3] = mul(%x, %bn.scale) name "bn" from "Bn_0"
        %y : float32[1,2,3,3] = add(%bn.mul, %bn.shift) name "bn.add" from "Bn_0"
        output %y
        """,
    )


def test_batch_norm_without_constants_stays():
    check_untouched(
        LowerBatchNorm(),
        f"""
        input %x : float32[1,2,3,3]
        input %live : float32[2]
        {NORM}
        %y : float32[1,2,3,3] = batch_norm(%x, %live, %beta, %mean, %var)
        output %y
        """,
    )


def test_degenerate_batch_norm_stays():
    text = f"input %x : float32[1,2,3,3]\n{NORM}\n%{norm('x', 'y')}\noutput %y".replace("[0.75,", "[-0.25,")
    check_refused(LowerBatchNorm(), text, "its factors are not all finite")


# ---- gemm


def test_matmul_becomes_gemm():
    check_pass(
        NormaliseLinear(),
        """
        input %x : float32[2,3]
        const %w : float32[3,1] = [1.0, 2.0, 3.0]
        %y : float32[2,1] = matmul(%x, %w) from "MatMul_0"
        output %y
        """,
        """
        input %x : float32[2,3]
        const %w : float32[3,1] = [1.0, 2.0, 3.0]
        %y : float32[2,1] = gemm(%x, %w) from "MatMul_0"
        output %y
        """,
        exact=True,
    )


def test_other_products_stay():
    check_untouched(
        NormaliseLinear(),
        """
        input %x : float32[1,2,3]
        input %u : float32[2,3]
        input %v : float32[3,2]
        input %i : int64[2,2]
        const %w : float32[3,1] = [1.0, 2.0, 3.0]
        const %j : int64[2,1] = [1, 2]
        %a : float32[1,2,1] = matmul(%x, %w)
        %b : float32[2,2] = matmul(%u, %v)
        %c : int64[2,1] = matmul(%i, %j)
        output %a
        output %b
        output %c
        """,
    )


def test_factors_of_gemm_go_into_constants():
    check_pass(
        NormaliseLinear(),
        """
        input %x : float32[2,3]
        const %w : float32[3,1] = [1.0, 2.0, 3.0]
        const %b : float32[1] = [4.0]
        %y : float32[2,1] = gemm(%x, %w, %b) {alpha=0.5, beta=2.0}
        output %y
        """,
        """
        input %x : float32[2,3]
        const %w : float32[3,1] = [0.5, 1.0, 1.5]
        const %b : float32[1] = [8.0]
        %y : float32[2,1] = gemm(%x, %w, %b)
        output %y
        """,
        exact=True,
    )


def test_factors_of_computed_operands_stay():
    check_refused(
        NormaliseLinear(),
        """
        input %x : float32[2,3]
        input %b : float32[1]
        const %w : float32[3,1] = [1.0, 2.0, 3.0]
        %y : float32[2,1] = gemm(%x, %w, %b) {beta=2.0}
        output %y
        """,
        "operand c is computed at run time",
    )
