"""The builder's layers with weights: convolutions, fully connected layers, normalisations, `prelu`."""

from __future__ import annotations

import math

from convc.errors import TypeRuleError
from convc.frontends.builder_core import Ints, NetworkBase, Padding, Tensor, located
from convc.frontends.builder_windows import per_axis, positive, spatial, window_pads
from convc.frontends.weights import Draw, Parameter, he_normal, normal, uniform
from convc.ir.attributes import integer
from convc.ops.conv import ConvAttrs, ConvTransposeAttrs
from convc.ops.linear import GemmAttrs
from convc.ops.norm import BatchNormAttrs, GroupNormAttrs, InstanceNormAttrs, LayerNormAttrs
from convc.types import Array

BIAS = normal(0.0, 0.05)


def _bias(given: bool | Array, size: int, draw: Draw = BIAS) -> Parameter | None:
    """The bias of a layer: absent, given or drawn."""
    if isinstance(given, bool):
        return Parameter("bias", (size,), None, draw) if given else None
    return Parameter("bias", (size,), given, draw)


class WeightedLayers(NetworkBase):
    """Layers with parameters."""

    @located
    def conv(
        self,
        x: Tensor,
        channels: int,
        kernel: Ints,
        *,
        stride: Ints = 1,
        padding: Padding = 0,
        dilation: Ints = 1,
        groups: int = 1,
        bias: bool | Array = True,
        weight: Array | None = None,
        name: str = "",
    ) -> Tensor:
        """Convolution of x (N, C, *spatial) with weights (channels, C / groups, *kernel), 1-D to 3-D.

        `groups=x.channels` is a depthwise convolution. Weights are drawn He normal, biases N(0, 0.05).
        """
        extents = spatial(x)
        axes = len(extents)
        size, strides = per_axis(kernel, axes, "kernel"), per_axis(stride, axes, "stride")
        dilations = per_axis(dilation, axes, "dilation")
        positive(channels=channels, kernel=size, stride=strides, dilation=dilations, groups=groups)
        if x.channels % groups or channels % groups:
            raise TypeRuleError(
                f"{groups} groups do not divide {x.channels} input and {channels} output channels."
            )
        pads = window_pads(padding, extents, size, strides, dilations)
        shape = (channels, x.channels // groups, *size)
        weights = Parameter("weight", shape, weight, he_normal(math.prod(shape[1:])))
        attrs = ConvAttrs(strides, dilations, pads, groups)
        return self._add("conv", [x], attrs, name, [weights, _bias(bias, channels)])[0]

    @located
    def conv_transpose(
        self,
        x: Tensor,
        channels: int,
        kernel: Ints,
        *,
        stride: Ints = 1,
        padding: Padding = 0,
        output_padding: Ints = 0,
        dilation: Ints = 1,
        groups: int = 1,
        bias: bool | Array = True,
        weight: Array | None = None,
        name: str = "",
    ) -> Tensor:
        """Transposed ("up-") convolution of x (N, C, *spatial), weights (C, channels / groups, *kernel).

        `padding` crops the result; "same" makes every extent stride times the input's.
        """
        extents = spatial(x)
        axes = len(extents)
        size, strides = per_axis(kernel, axes, "kernel"), per_axis(stride, axes, "stride")
        dilations, extra = (
            per_axis(dilation, axes, "dilation"),
            per_axis(output_padding, axes, "output_padding"),
        )
        positive(channels=channels, kernel=size, stride=strides, dilation=dilations, groups=groups)
        if x.channels % groups or channels % groups:
            raise TypeRuleError(
                f"{groups} groups do not divide {x.channels} input and {channels} output channels."
            )
        if isinstance(padding, str) and padding == "same":
            surplus = [d * (k - 1) + 1 - s for k, s, d in zip(size, strides, dilations, strict=True)]
            pads = tuple((max(n, 0) // 2, max(n, 0) - max(n, 0) // 2) for n in surplus)
            extra = tuple(e + max(-n, 0) for e, n in zip(extra, surplus, strict=True))
        else:
            pads = window_pads(padding, extents, size, strides, dilations)
        shape = (x.channels, channels // groups, *size)
        fan_in = x.channels // groups * math.prod(size) / math.prod(strides)  # inputs that reach one output
        weights = Parameter("weight", shape, weight, he_normal(fan_in))
        attrs = ConvTransposeAttrs(strides, dilations, pads, groups, extra)
        return self._add("conv_transpose", [x], attrs, name, [weights, _bias(bias, channels)])[0]

    @located
    def linear(
        self,
        x: Tensor,
        features: int,
        *,
        bias: bool | Array = True,
        weight: Array | None = None,
        name: str = "",
    ) -> Tensor:
        """Fully connected layer: x (N, ...), flattened to (N, D) if need be, weights (features, D)."""
        positive(features=features)
        flat = x if x.rank == 2 else self.apply("reshape", x, shape=(x.shape[0], math.prod(x.shape[1:])))
        shape = (features, flat.shape[1])
        weights = Parameter("weight", shape, weight, he_normal(shape[1]))
        attrs = GemmAttrs(trans_b=True)
        return self._add("gemm", [flat], attrs, name, [weights, _bias(bias, features)], kind="linear")[0]

    @located
    def batch_norm(
        self,
        x: Tensor,
        *,
        epsilon: float = 1e-5,
        gain: float = 1.0,
        scale: Array | None = None,
        bias: Array | None = None,
        mean: Array | None = None,
        var: Array | None = None,
        name: str = "",
    ) -> Tensor:
        """Batch normalisation with fixed statistics (Ioffe and Szegedy, 2015), over axis 1.

        Drawn: scale in `gain` * [0.5, 1.5), var in [0.5, 1.5), bias and mean N(0, 0.1). A gain below 1 on the
        last normalisation of each residual branch keeps a deep network's activations from growing.
        """
        shape = (x.channels,)
        parameters = [
            Parameter("scale", shape, scale, uniform(0.5 * gain, 1.5 * gain)),
            Parameter("bias", shape, bias, normal(0.0, 0.1)),
            Parameter("mean", shape, mean, normal(0.0, 0.1)),
            Parameter("var", shape, var, uniform(0.5, 1.5)),
        ]
        return self._add("batch_norm", [x], BatchNormAttrs(epsilon), name, parameters)[0]

    @located
    def instance_norm(
        self,
        x: Tensor,
        *,
        epsilon: float = 1e-5,
        scale: Array | None = None,
        bias: Array | None = None,
        name: str = "",
    ) -> Tensor:
        """Normalise each channel of each image by its own statistics (Ulyanov et al., 2016)."""
        parameters = self._affine((x.channels,), scale, bias)
        return self._add("instance_norm", [x], InstanceNormAttrs(epsilon), name, parameters)[0]

    @located
    def group_norm(
        self,
        x: Tensor,
        groups: int,
        *,
        epsilon: float = 1e-5,
        scale: Array | None = None,
        bias: Array | None = None,
        name: str = "",
    ) -> Tensor:
        """Normalise groups of channels of each image by their own statistics (Wu and He, 2018)."""
        parameters = self._affine((x.channels,), scale, bias)
        return self._add("group_norm", [x], GroupNormAttrs(groups, epsilon), name, parameters)[0]

    @located
    def layer_norm(
        self,
        x: Tensor,
        *,
        axis: int = -1,
        epsilon: float = 1e-5,
        scale: Array | None = None,
        bias: Array | None = None,
        name: str = "",
    ) -> Tensor:
        """Normalise over the axes from `axis` to the last (Ba et al., 2016)."""
        if not -x.rank <= integer(axis, "axis") < x.rank:
            raise TypeRuleError(f"axis {axis} does not exist in the shape {x.shape}.")
        parameters = self._affine(x.shape[axis:], scale, bias)
        return self._add("layer_norm", [x], LayerNormAttrs(axis, epsilon), name, parameters)[0]

    @staticmethod
    def _affine(shape: tuple[int, ...], scale: Array | None, bias: Array | None) -> list[Parameter]:
        draw_scale, draw_bias = uniform(0.5, 1.5), normal(0.0, 0.1)
        return [Parameter("scale", shape, scale, draw_scale), Parameter("bias", shape, bias, draw_bias)]

    @located
    def prelu(self, x: Tensor, *, slope: Array | None = None, name: str = "") -> Tensor:
        """Rectifier with a slope for each channel (He et al., 2015): (C, 1, ...), drawn in [0, 0.5)."""
        shape = (x.channels, *[1] * (x.rank - 2))
        return self._add("prelu", [x], None, name, [Parameter("slope", shape, slope, uniform(0.0, 0.5))])[0]
