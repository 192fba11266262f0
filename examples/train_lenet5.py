"""Train LeNet-5 on handwritten digits with NumPy alone and write lenet5_digits.onnx.

    python examples/train_lenet5.py [OUTPUT.onnx]

Backpropagation is written out layer by layer; Adam (Kingma and Ba, ICLR 2015), a cosine-shaped learning rate
and random affine distortions. Takes under two minutes on one core, and gives the same weights each time but
for the rounding of the machine's BLAS. The digits that it is tested on are never trained with, and the
settings below were chosen by validation within the training digits.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import digits
import lenet5
import numpy as np

from convc.frontends.onnx import to_onnx
from convc.ir.graph import Graph
from convc.types import Array

SEED = 0
EPOCHS = 60
BATCH = 32
RATE = 2e-3
STRETCH, SHIFT = 0.15, 2.0

Parameters = dict[str, Array]


def initial(rng: np.random.Generator) -> Parameters:
    """Weights of variance 1 / fan-in, for tanh (LeCun et al., Efficient BackProp, 1998); biases 0."""
    shapes = {
        "c1": (6, 1, 5, 5), "c3": (16, 6, 5, 5), "c5": (120, 16, 5, 5), "f6": (84, 120), "output": (10, 84),
    }  # fmt: skip
    parameters = {}
    for layer, shape in shapes.items():
        deviation = 1 / np.sqrt(np.prod(shape[1:]))
        parameters[f"{layer}.weight"] = (deviation * rng.standard_normal(shape)).astype(np.float32)
        parameters[f"{layer}.bias"] = np.zeros(shape[0], np.float32)
    return parameters


def patches(x: Array) -> Array:
    """The 5 x 5 windows of x (N, C, H, W) as rows: (N, H - 4, W - 4, C * 25)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
    n, c, h, w = windows.shape[:4]
    return np.ascontiguousarray(windows.transpose(0, 2, 3, 1, 4, 5)).reshape(n, h, w, c * 25)


def conv(x: Array, p: Parameters, layer: str) -> tuple[Array, Array]:
    """A 5 x 5 convolution; also its patches, which the way back needs."""
    rows = patches(x)
    weight = p[f"{layer}.weight"]
    y = rows @ weight.reshape(len(weight), -1).T + p[f"{layer}.bias"]
    return np.ascontiguousarray(y.transpose(0, 3, 1, 2)), rows


def conv_back(dy: Array, rows: Array, p: Parameters, layer: str, grads: Parameters) -> Array:
    """Gradients of weights and bias into `grads`; returns that of the input."""
    weight = p[f"{layer}.weight"]
    outer = dy.transpose(0, 2, 3, 1).reshape(-1, len(weight))
    grads[f"{layer}.weight"] = (outer.T @ rows.reshape(len(outer), -1)).reshape(weight.shape)
    grads[f"{layer}.bias"] = outer.sum(0)
    n, _, h, w = dy.shape
    taps = (outer @ weight.reshape(len(weight), -1)).reshape(n, h, w, weight.shape[1], 5, 5)
    dx = np.zeros((n, weight.shape[1], h + 4, w + 4), np.float32)
    for i, j in np.ndindex(5, 5):
        dx[:, :, i : i + h, j : j + w] += taps[..., i, j].transpose(0, 3, 1, 2)
    return dx


def pool(x: Array) -> Array:
    """Means of 2 x 2 pixels."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


def pool_back(dy: Array) -> Array:
    """Each mean's gradient to its four pixels."""
    return 0.25 * dy.repeat(2, axis=2).repeat(2, axis=3)


def forward(p: Parameters, x: Array) -> tuple[Array, tuple[Array, ...]]:
    """Logits (N, 10), and what the way back needs."""
    a1, rows1 = conv(x, p, "c1")
    t1 = np.tanh(a1)
    a3, rows3 = conv(pool(t1), p, "c3")
    t3 = np.tanh(a3)
    a5, rows5 = conv(pool(t3), p, "c5")
    t5 = np.tanh(a5)
    t6 = np.tanh(t5[:, :, 0, 0] @ p["f6.weight"].T + p["f6.bias"])
    return t6 @ p["output.weight"].T + p["output.bias"], (rows1, t1, rows3, t3, rows5, t5, t6)


def gradients(p: Parameters, x: Array, labels: Array) -> tuple[float, Parameters]:
    """Mean cross-entropy of a batch and its gradient in every parameter."""
    logits, (rows1, t1, rows3, t3, rows5, t5, t6) = forward(p, x)
    logits = logits - logits.max(1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    chosen = np.arange(len(x)), labels
    d = np.exp(logs)
    d[chosen] -= 1
    d /= len(x)
    grads: Parameters = {"output.weight": d.T @ t6, "output.bias": d.sum(0)}
    d = (d @ p["output.weight"]) * (1 - t6**2)
    grads |= {"f6.weight": d.T @ t5[:, :, 0, 0], "f6.bias": d.sum(0)}
    d5 = (d @ p["f6.weight"])[:, :, None, None] * (1 - t5**2)
    d3 = pool_back(conv_back(d5, rows5, p, "c5", grads)) * (1 - t3**2)
    d1 = pool_back(conv_back(d3, rows3, p, "c3", grads)) * (1 - t1**2)
    conv_back(d1, rows1, p, "c1", grads)
    return float(-logs[chosen].mean()), grads


def distorted(rng: np.random.Generator, images: Array) -> Array:
    """Each image under a random affine map: a matrix near the identity, a shift.

    The value at a pixel is interpolated bilinearly at the place that the map gives; beyond the border lies
    background, the smallest value.
    """
    count, size = len(images), images.shape[-1]
    matrix = np.eye(2) + rng.uniform(-STRETCH, STRETCH, (count, 2, 2))
    centred = np.stack(np.mgrid[:size, :size]).reshape(2, -1) - (size - 1) / 2
    place = matrix @ centred + rng.uniform(-SHIFT, SHIFT, (count, 2, 1)) + (size - 1) / 2
    place = np.clip(place, -1, size) + 1  # in the image with a border of one pixel
    framed = np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1)), constant_values=images.min())
    corner = np.minimum(place.astype(np.int64), size)
    (y, x), (fy, fx) = corner.swapaxes(0, 1), (place - corner).swapaxes(0, 1)
    each = np.arange(count)[:, None]
    upper = framed[each, y, x] * (1 - fx) + framed[each, y, x + 1] * fx
    lower = framed[each, y + 1, x] * (1 - fx) + framed[each, y + 1, x + 1] * fx
    return (upper * (1 - fy) + lower * fy).reshape(images.shape).astype(np.float32)


def train(data: digits.Digits, epochs: int = EPOCHS) -> Parameters:
    """Trained parameters, under the names that the builder gives them."""
    rng = np.random.default_rng(SEED)
    p = initial(rng)
    first = {name: np.zeros_like(a) for name, a in p.items()}
    second = {name: np.zeros_like(a) for name, a in p.items()}
    batches = len(data.train_labels) // BATCH
    step = 0
    for epoch in range(epochs):
        order, loss = rng.permutation(len(data.train_labels)), 0.0
        for batch in range(batches):
            chosen = order[batch * BATCH : (batch + 1) * BATCH]
            images = distorted(rng, data.train_images[chosen])
            batch_loss, grads = gradients(p, images, data.train_labels[chosen])
            loss += batch_loss / batches
            step += 1
            rate = RATE * 0.5 * (1 + np.cos(np.pi * step / (epochs * batches)))
            for name, g in grads.items():
                first[name] += 0.1 * (g - first[name])
                second[name] += 0.001 * (g * g - second[name])
                mean, square = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
                p[name] -= (rate * mean / (np.sqrt(square) + 1e-8)).astype(np.float32)
        print(f"epoch {epoch + 1:2}: loss {loss:.4f}")
    return p


def accuracy(p: Parameters, images: Array, labels: Array) -> float:
    """Fraction of images whose digit gets the largest logit."""
    return float((forward(p, images)[0].argmax(1) == labels).mean())


def write(graph: Graph, path: Path) -> None:
    """Write the network as ONNX with a symbolic batch, `N`."""
    model = to_onnx(graph)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    reshapes = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    for tensor in model.graph.initializer:
        if tensor.name in reshapes:
            shape = np.frombuffer(tensor.raw_data, np.int64).copy()
            shape[0] = 0  # the extent of the input
            tensor.raw_data = shape.tobytes()
    path.write_bytes(model.SerializeToString())


def main() -> None:
    """Train, report the accuracy on the test digits, write the model."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("lenet5_digits.onnx")
    data = digits.load()
    start = time.perf_counter()
    p = train(data)
    print(f"trained in {time.perf_counter() - start:.0f} s")
    right = accuracy(p, data.test_images, data.test_labels)
    print(f"accuracy: {accuracy(p, data.train_images, data.train_labels):.2%} train, {right:.2%} test")
    write(lenet5.build(weights=p), path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
