"""Residual blocks whose sum is added by a separable kernel, compiled and compared with float64."""

from __future__ import annotations

import pytest

import convc
from convc.frontends.builder import Network


@pytest.mark.parametrize("target", ["haswell", "host"])
@pytest.mark.parametrize(("size", "channels"), [(56, 24), (14, 64)])
def test_overlapping_tiles_add_a_residual_once(target, size, channels, monkeypatch):
    """Tiles overlap, so that the sum must not be written over its operand. Joined whatever it costs."""
    monkeypatch.setattr("convc.passes.fuse_separable.seconds", lambda *_: 0.0)
    net = Network("block", seed=0)
    x = net.conv(net.input("x", (1, channels, size, size)), channels, 1)
    for _ in range(2):
        hidden = net.clip(net.conv(x, 6 * channels, 1), 0.0, 6.0)
        hidden = net.clip(net.conv(hidden, 6 * channels, 3, padding=1, groups=6 * channels), 0.0, 6.0)
        x = net.add(x, net.conv(hidden, channels, 1))
    net.output(x)
    module = convc.compile(net.graph, target=target, threads=2)  # raises VerificationError
    assert {"depthwise_pointwise", "pointwise_depthwise"} & {layer.op for layer in module.plan}
