"""The example networks against the numbers that their papers and torchvision publish."""

import importlib
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from convc.evaluate import evaluate
from convc.frontends.onnx import read
from convc.ir.verify import verify
from convc.report.summary import summary, totals

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))


def rows_of(module, **options):
    graph = importlib.import_module(module).build(seed=None, **options)
    verify(graph)
    return {row.name: row for row in summary(graph)}


# torchvision's documentation of its models; for GoogLeNet Caffe's bvlc_googlenet without the auxiliary heads
PARAMETERS = [
    ("lenet5", {}, 61_706),
    ("alexnet", {}, 60_965_224),
    ("vgg16", {}, 138_357_544),
    ("googlenet", {}, 6_998_552),
    ("resnet", {"depth": 18}, 11_689_512),
    ("resnet", {"depth": 34}, 21_797_672),
    ("resnet", {"depth": 50}, 25_557_032),
    ("resnet", {"depth": 50, "original": True}, 25_557_032),
    ("resnet", {"depth": 101}, 44_549_160),
    ("resnet", {"depth": 152}, 60_192_808),
    ("unet", {}, 31_030_658),
    ("squeezenet", {}, 1_235_496),
    ("mobilenet_v2", {}, 3_504_872),
    ("densenet", {"depth": 121}, 7_978_856),
    ("densenet", {"depth": 169}, 14_149_480),
    ("densenet", {"depth": 201}, 20_013_928),
    # 27,161,264 less the auxiliary classifier's two normalised convolutions and linear layer
    ("inception_v3", {}, 27_161_264 - (768 * 128 + 2 * 128 + 128 * 768 * 25 + 2 * 768 + 769 * 1000)),
]


@pytest.mark.parametrize(("module", "options", "expected"), PARAMETERS)
def test_parameter_counts_are_the_published_ones(module, options, expected):
    assert totals(list(rows_of(module, **options).values()))["parameters"] == expected


# Fields: Araujo et al., Distill 2019, table of AlexNet, VGG-16 and ResNet-v1 (stride on the first 1x1);
# U-Net's bottom: 140, the receptive field usually quoted for it.
FIELDS = [
    ("alexnet", {}, "max_pool3", 195, 32, (1, 256, 6, 6)),
    ("vgg16", {}, "conv5_3", 196, 16, (1, 512, 14, 14)),
    ("vgg16", {}, "pool5", 212, 32, (1, 512, 7, 7)),
    ("resnet", {"depth": 50, "original": True}, "layer4.2.output", 483, 32, (1, 2048, 7, 7)),
    ("resnet", {"depth": 101, "original": True}, "layer4.2.output", 1027, 32, (1, 2048, 7, 7)),
    ("resnet", {"depth": 152, "original": True}, "layer4.2.output", 1507, 32, (1, 2048, 7, 7)),
    ("resnet", {"depth": 50}, "layer4.2.output", 427, 32, (1, 2048, 7, 7)),
    ("resnet", {"depth": 18}, "layer4.1.output", 435, 32, (1, 512, 7, 7)),
    ("resnet", {"depth": 34}, "layer4.2.output", 899, 32, (1, 512, 7, 7)),
    ("unet", {}, "bottom.conv2", 140, 16, (1, 1024, 28, 28)),
    ("unet", {}, "classes", 200, 1, (1, 2, 388, 388)),
    ("lenet5", {}, "s4", 16, 4, (1, 16, 5, 5)),
    ("inception_v3", {}, "mixed_7c.output", 1311, 32, (1, 2048, 8, 8)),
]


@pytest.mark.parametrize(("module", "options", "layer", "size", "stride", "shape"), FIELDS)
def test_receptive_fields_are_the_published_ones(module, options, layer, size, stride, shape):
    row = rows_of(module, **options)[layer]
    assert (row.receptive_field, row.stride) == ((size, size), (stride, stride))
    assert row.output_shape == shape


# The papers' own tables: VGG (15.5 G, known since), He et al. table 1 (1.8, 3.6, 3.8, 7.6 and 11.3 G), and
# Szegedy et al. table 1 (about 1.5 G), all as multiply-adds to the digits that they give; Sandler et al.
# table 4 (300 M); the others from torchvision's documentation.
MULTIPLY_ADDS = [
    ("vgg16", {}, 15.5e9, 0.05e9),
    ("resnet", {"depth": 18}, 1.8e9, 0.05e9),
    ("resnet", {"depth": 34}, 3.6e9, 0.1e9),
    ("resnet", {"depth": 50, "original": True}, 3.8e9, 0.1e9),
    ("resnet", {"depth": 101, "original": True}, 7.6e9, 0.1e9),
    ("resnet", {"depth": 152, "original": True}, 11.3e9, 0.1e9),
    ("googlenet", {}, 1.5e9, 0.1e9),
    ("mobilenet_v2", {}, 300e6, 5e6),
    ("squeezenet", {}, 0.35e9, 0.005e9),
    ("densenet", {"depth": 121}, 2.83e9, 0.005e9),
    ("densenet", {"depth": 201}, 4.29e9, 0.005e9),
    ("inception_v3", {}, 5.71e9, 0.005e9),
]


@pytest.mark.parametrize(("module", "options", "expected", "rounding"), MULTIPLY_ADDS)
def test_multiply_adds_are_those_of_the_papers(module, options, expected, rounding):
    found = totals(list(rows_of(module, **options).values()))["multiply_adds"]
    assert found == pytest.approx(expected, abs=rounding)


def test_alexnet_of_2014_is_torchvisions():
    graph = importlib.import_module("alexnet").build_2014(seed=None)
    verify(graph)
    found = totals(summary(graph))
    assert found["parameters"] == 61_100_840
    assert found["multiply_adds"] == pytest.approx(0.71e9, abs=0.005e9)


def test_lenet5_of_1998_has_the_papers_parameters():
    rows = summary(importlib.import_module("lenet5").build_1998())
    by_layer = {}
    for row in rows:
        layer = row.name.split(".")[0]
        by_layer[layer] = by_layer.get(layer, 0) + row.parameters
    layers = {name: by_layer[name] for name in ("c1", "s2", "c3", "s4", "c5", "f6")}
    # section II.B: 156, 12, 1,516, 32, 48,120 and 10,164 trainable parameters
    assert layers == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert sum(layers.values()) == 60_000


def test_lenet5_of_1998_measures_distances_to_its_codes():
    lenet5 = importlib.import_module("lenet5")
    graph = lenet5.build_1998(batch=2)
    image = np.random.default_rng(0).uniform(-0.1, 1.175, (2, 1, 32, 32))
    (penalties,) = evaluate(graph, {"image": image})
    last = next(node for node in reversed(graph.nodes) if node.name == "codes")
    codes = -graph.constants[last.inputs[1]] / 2
    graph.set_outputs([last.inputs[0]])
    (features,) = evaluate(graph, {"image": image})
    expected = ((features[:, None] - codes[None]) ** 2).sum(-1)
    np.testing.assert_allclose(penalties, expected, rtol=1e-12)


def test_activations_of_a_deep_network_keep_their_size():
    graph = importlib.import_module("resnet").build(depth=18, seed=0)
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224))
    (logits,) = evaluate(graph, {"image": image})
    assert logits.shape == (1, 1000)
    assert 1e-2 < np.abs(logits).max() < 1e2


def test_a_batch_and_a_padded_unet():
    unet = importlib.import_module("unet").build(batch=3, seed=None, size=64, padded=True)
    assert unet.outputs[0].type.shape == (3, 2, 64, 64)


def test_sizes_and_widths():
    resnet = importlib.import_module("resnet").build(seed=None, depth=18, size=96)
    assert resnet.inputs[0].type.shape == (1, 3, 96, 96)
    rows = rows_of("unet", size=64, padded=True, width=8)
    assert rows["bottom.conv2"].output_shape == (1, 128, 4, 4)


# ---- the digits demo


def test_enlarged_digits_keep_their_ink_and_levels():
    digits = importlib.import_module("digits")
    small = np.zeros((2, 8, 8))
    small[0] = 16
    small[1, 2, 5] = 16
    full, dot = (digits.enlarge(small)[:, 0] + 0.1) / 1.275
    eps = 8 * np.finfo("f4").eps
    expected = np.zeros((32, 32))
    expected[4:28, 4:28] = 1
    np.testing.assert_allclose(full, expected, atol=eps)
    assert dot.sum() == pytest.approx(9, abs=1e-3)  # nine pixels for one: bilinear weights add up to 3 x 3
    assert np.unravel_index(dot.argmax(), dot.shape) == (4 + 3 * 2 + 1, 4 + 3 * 5 + 1)


def test_backpropagation_agrees_with_differences():
    trainer = importlib.import_module("train_lenet5")
    rng = np.random.default_rng(0)
    p = {name: array.astype(np.float64) for name, array in trainer.initial(rng).items()}
    images, labels = rng.uniform(-0.1, 1.175, (3, 1, 32, 32)), np.array([1, 0, 7])
    _, grads = trainer.gradients(p, images, labels)
    for name, array in p.items():
        direction = rng.standard_normal(array.shape)
        step = 1e-5
        ahead, back = (
            trainer.gradients({**p, name: array + sign * step * direction}, images, labels)[0]
            for sign in (1, -1)
        )
        # central differences: the error is the third derivative's share, about step**2 of the slope's size
        scale = np.abs(grads[name]).sum()
        assert (ahead - back) / (2 * step) == pytest.approx((grads[name] * direction).sum(), abs=1e-6 * scale)


def test_distortion_without_strength_is_the_identity(monkeypatch):
    trainer = importlib.import_module("train_lenet5")
    images = np.random.default_rng(0).uniform(-0.1, 1.175, (3, 1, 32, 32)).astype(np.float32)
    monkeypatch.setattr(trainer, "STRETCH", 0.0)
    monkeypatch.setattr(trainer, "SHIFT", 0.0)
    np.testing.assert_allclose(trainer.distorted(np.random.default_rng(0), images), images, atol=1e-6)


def test_the_committed_model_is_lenet5_and_takes_any_batch():
    model = EXAMPLES / "lenet5_digits.onnx"
    graph = read(model, input_shapes={"image": (3, 1, 32, 32)})
    rows = summary(graph)
    assert totals(rows)["parameters"] == 61_706
    assert graph.output_names == ("probabilities",)
    image = np.random.default_rng(0).uniform(-0.1, 1.175, (3, 1, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (expected,) = evaluate(graph, {"image": image})
    (found,) = session.run(None, {"image": image})
    # float32 against float64: sums of at most 400 products, and tanh keeps errors from growing
    np.testing.assert_allclose(found, expected, rtol=0, atol=400 * np.finfo("f4").eps)


def test_the_committed_model_reads_digits():
    """Drawn characters that nobody trained with: coarse, but a network of wrong weights fails."""
    strokes = {
        0: ["  ####  ", " ##  ## ", " #    # ", " #    # ", " #    # ", " #    # ", " ##  ## ", "  ####  "],
        1: ["   ##   ", "  ###   ", " ####   ", "   ##   ", "   ##   ", "   ##   ", "   ##   ", "   ##   "],
        7: [" ###### ", "     ## ", "     #  ", "   ###  ", "   ##   ", "  ##    ", "  ##    ", "  #     "],
    }
    digits = importlib.import_module("digits")
    small = np.array([[[16.0 * (c == "#") for c in line] for line in lines] for lines in strokes.values()])
    graph = read(EXAMPLES / "lenet5_digits.onnx", input_shapes={"image": (len(small), 1, 32, 32)})
    (probabilities,) = evaluate(graph, {"image": digits.enlarge(small)})
    assert list(probabilities.argmax(1)) == list(strokes)
