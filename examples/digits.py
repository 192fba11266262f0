"""Real handwritten digits for LeNet-5, from scikit-learn's wheel: nothing is downloaded.

They are the test half of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, UCI Machine
Learning Repository, 1998): 1797 digits by 13 people, 8 x 8 pixels with 17 levels of grey.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convc.types import Array

TEST = 360
SPLIT_SEED = 1998


@dataclass(frozen=True)
class Digits:
    """Images (N, 1, 32, 32) float32 and their labels (N,) int64, for training and for testing."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


def enlarge(small: Array) -> Array:
    """Digits (N, 8, 8) of 0 to 16 as LeNet-5's input (N, 1, 32, 32) float32.

    Bilinear to 24 x 24 (pixel centres aligned, edges repeated), in the middle of a 32 x 32 field; the
    background is -0.1 and full ink 1.175, as in the paper's section III.A.
    """
    position = np.clip((np.arange(24) + 0.5) / 3 - 0.5, 0, 7)
    matrix = np.maximum(1 - np.abs(position[:, None] - np.arange(8)), 0)  # (24, 8), rows sum to 1
    large = np.einsum("yi,nij,xj->nyx", matrix, small / 16.0, matrix)
    field = np.pad(large, ((0, 0), (4, 4), (4, 4)))
    return (1.275 * field - 0.1)[:, None].astype(np.float32)


def load() -> Digits:
    """The digits, split once and for all: 1437 to train with and 360, drawn with a fixed seed, to test."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        raise SystemExit("The digits come with scikit-learn: pip install 'convc[demo]'.") from None

    digits = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits.images))
    test, train = order[:TEST], order[TEST:]
    images, labels = enlarge(digits.images), digits.target.astype(np.int64)
    return Digits(images[train], labels[train], images[test], labels[test])
