"""The mosaic against one laid out by hand, and a training that uses it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kanoclip.augmentation import Mosaic, Sample
from kanoclip.config import BackboneConfig
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.training import train_stage


class Plates:
    """Plain images: row r has the gray value 10 r + 1 and the mask is True where `anomalous`; sizes differ."""

    def __init__(self, class_names: Sequence[str], defects: Sequence[str], sizes: Sequence[tuple[int, int]]):
        self.class_names, self.defects, self.sizes = class_names, defects, sizes

    def load(self, row: int) -> Sample:
        height, width = self.sizes[row]
        anomalous = self.defects[row] != "good"
        return np.full((height, width, 3), 10 * row + 1, np.uint8), np.full((height, width), anomalous)


class Fixed:
    """A source of randomness that says what it is told."""

    def __init__(self, draw: float, choices: Sequence[object]):
        self.draw, self.choices = draw, list(choices)

    def random(self) -> float:
        return self.draw

    def choice(self, among: np.ndarray) -> object:
        wanted = self.choices.pop(0)
        assert wanted in among
        return wanted


IMAGES = Plates(
    ["nut", "bolt", "nut", "nut", "nut"],
    ["good", "good", "crack", "spot", "spot"],
    [(2, 3), (9, 9), (4, 5), (1, 2), (3, 1)],
)


def test_a_mosaic_by_hand() -> None:
    """The cell is the first part's, 2 x 3: row 2 is cut, row 3 leaves black below and to the right, row 4 too."""
    draws = Fixed(0.1, ["good", 0, "crack", 2, "spot", 3, "spot", 4])
    image, mask = Mosaic(0.2)(0, IMAGES, draws)
    gray = [
        [1, 1, 1, 21, 21, 21],
        [1, 1, 1, 21, 21, 21],
        [31, 31, 0, 41, 0, 0],
        [0, 0, 0, 41, 0, 0],
    ]
    assert image.dtype == np.uint8 and image.shape == (4, 6, 3)
    assert all(image[..., channel].tolist() == gray for channel in range(3))
    assert mask.dtype == bool and mask.tolist() == [[value in (21, 31, 41) for value in line] for line in gray]
    assert draws.choices == []


@pytest.mark.parametrize("row", range(5))
def test_probability_0_leaves_every_image_alone(row: int) -> None:
    for seed in range(20):
        image, mask = Mosaic(0.0)(row, IMAGES, np.random.default_rng(seed))
        expected, truth = IMAGES.load(row)
        assert np.array_equal(image, expected) and np.array_equal(mask, truth)


def test_probability_1_always_joins_four_images_of_the_class() -> None:
    sizes = {IMAGES.sizes[row] for row in (0, 2, 3, 4)}
    for seed in range(50):
        image, _ = Mosaic(1.0)(2, IMAGES, np.random.default_rng(seed))
        assert (image.shape[0] / 2, image.shape[1] / 2) in sizes
        assert set(np.unique(image)) <= {0, 1, 21, 31, 41}  # never 11, the bolt
        alone, _ = Mosaic(1.0)(1, IMAGES, np.random.default_rng(seed))
        assert alone.shape == (18, 18, 3) and (alone == 11).all()


def test_defects_are_equally_likely_and_then_their_images() -> None:
    """The first part is told by the shape: good and crack have one image, spot has two that share its third."""
    shapes = [Mosaic(1.0)(0, IMAGES, np.random.default_rng(seed))[0].shape[:2] for seed in range(3000)]
    share = pd.Series(shapes).value_counts(normalize=True)
    for row, expected in {0: 1 / 3, 2: 1 / 3, 3: 1 / 6, 4: 1 / 6}.items():
        height, width = IMAGES.sizes[row]
        assert share[2 * height, 2 * width] == pytest.approx(expected, abs=0.04)


def test_mosaics_come_as_often_as_asked() -> None:
    changed = [Mosaic(0.3)(0, IMAGES, np.random.default_rng(seed))[0].shape != (2, 3, 3) for seed in range(3000)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.03)


def test_april_gan_with_mosaics_is_trained_live_and_repeatable_to_the_bit(
    index: Path, features: Path, knowledge: Path, tiny_config: BackboneConfig, tmp_path: Path
) -> None:
    """With threads or without, beside a cache or without one: the images are encoded anew in any case."""
    live = Dataset("parts", index, backbone=tiny_config)
    threads = Dataset("parts", index, backbone=tiny_config, workers=3)
    cached = Dataset("parts", index, features)

    def trained(out: str, data: Dataset, mosaic: float) -> bytes:
        options = {"epochs": 2, "mosaic": mosaic}
        folder = tmp_path / out
        train_stage("april_gan", options, data, knowledge, folder, [3], "cpu", folder / "store")
        return (folder / "seed3" / "checkpoint.safetensors").read_bytes()

    first = trained("first", live, 0.5)
    assert first == trained("again", live, 0.5) == trained("threads", threads, 0.5) == trained("cached", cached, 0.5)
    assert trained("other", live, 0.6) != first
    assert trained("plain", cached, 0.0) != first
