"""Compare mosaics with one built by hand; test a training that uses them and random changes of images and masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kanoclip.augmentation import Changes, ColourJitter, Geometric, Mosaic, Sample
from kanoclip.config import BackboneConfig
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.training import train_stage


class Plates:
    """Uniform images of different sizes: row r has the grey value 10 r + 1; masks are all True if `anomalous`."""

    def __init__(self, class_names: Sequence[str], defects: Sequence[str], sizes: Sequence[tuple[int, int]]):
        self.class_names, self.defects, self.sizes = class_names, defects, sizes

    def load(self, row: int) -> Sample:
        height, width = self.sizes[row]
        anomalous = self.defects[row] != "good"
        return np.full((height, width, 3), 10 * row + 1, np.uint8), np.full((height, width), anomalous)


class Fixed:
    """A random source that returns given values."""

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


def test_a_mosaic_equals_one_built_by_hand() -> None:
    """Cells have the size of the first part, 2 x 3: row 2 is cropped, rows 3 and 4 are padded with black."""
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
def test_probability_0_changes_no_image(row: int) -> None:
    for seed in range(20):
        image, mask = Mosaic(0.0)(row, IMAGES, np.random.default_rng(seed))
        expected, truth = IMAGES.load(row)
        assert np.array_equal(image, expected) and np.array_equal(mask, truth)


def test_probability_1_always_joins_four_images_of_the_class() -> None:
    sizes = {IMAGES.sizes[row] for row in (0, 2, 3, 4)}
    for seed in range(50):
        image, _ = Mosaic(1.0)(2, IMAGES, np.random.default_rng(seed))
        assert (image.shape[0] / 2, image.shape[1] / 2) in sizes
        assert set(np.unique(image)) <= {0, 1, 21, 31, 41}  # never 11, which is a bolt
        alone, _ = Mosaic(1.0)(1, IMAGES, np.random.default_rng(seed))
        assert alone.shape == (18, 18, 3) and (alone == 11).all()


def test_defects_are_equally_likely_and_so_are_images_of_a_defect() -> None:
    """The shape of the mosaic shows its first part: good and crack have one image each, spot has two."""
    shapes = [Mosaic(1.0)(0, IMAGES, np.random.default_rng(seed))[0].shape[:2] for seed in range(3000)]
    share = pd.Series(shapes).value_counts(normalize=True)
    for row, expected in {0: 1 / 3, 2: 1 / 3, 3: 1 / 6, 4: 1 / 6}.items():
        height, width = IMAGES.sizes[row]
        assert share[2 * height, 2 * width] == pytest.approx(expected, abs=0.04)


def test_mosaics_have_the_configured_frequency() -> None:
    changed = [Mosaic(0.3)(0, IMAGES, np.random.default_rng(seed))[0].shape != (2, 3, 3) for seed in range(3000)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.03)


def test_april_gan_with_mosaics_trains_without_a_cache_and_repeatably(
    index: Path, features: Path, knowledge: Path, tiny_config: BackboneConfig, tmp_path: Path
) -> None:
    """Threads or a cache make no difference, because mosaics are always encoded again."""
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


def spot(height: int = 40, width: int = 60) -> Sample:
    """Return a grey image whose only white pixels are those of its mask."""
    mask = np.zeros((height, width), bool)
    mask[10:20, 30:45] = True
    image = np.where(mask, 255, 100).astype(np.uint8)
    return np.repeat(image[..., None], 3, axis=2), mask


def test_masks_are_transformed_with_their_images() -> None:
    for seed in range(30):
        image, mask = Geometric(1.0)(spot(), np.random.default_rng(seed))
        assert image.shape == (40, 60, 3) and mask.shape == (40, 60) and mask.dtype == bool
        bright = image[..., 0] > 200  # interpolation at the border can change a pixel there
        assert (bright != mask).sum() <= 0.35 * mask.sum()
        assert (bright & mask).sum() >= 0.7 * mask.sum()


def test_each_change_equals_one_by_hand() -> None:
    """The random values choose one of the four changes, then its amount."""

    class Told:
        def __init__(self, which: int, amounts: object):
            self.which, self.amounts = which, amounts

        def random(self, count: int) -> np.ndarray:
            return np.where(np.arange(count) == self.which, 0.0, 1.0)

        def uniform(self, low: float, high: float, count: int | None = None) -> object:
            assert (low, high, count) in [(-30.0, 30.0, None), (-0.15, 0.15, 2)]
            return self.amounts

    image, mask = spot()
    expected = {2: (image[:, ::-1], mask[:, ::-1]), 3: (image[::-1], mask[::-1])}
    moved, moved_mask = np.zeros_like(image), np.zeros_like(mask)
    moved[:-4, 6:], moved_mask[:-4, 6:] = image[4:, :-6], mask[4:, :-6]
    expected[1] = moved, moved_mask
    for which, (of_image, of_mask) in expected.items():
        found = Geometric(0.5)((image, mask), Told(which, (0.1, -0.1)))
        assert np.array_equal(found[0], of_image) and np.array_equal(found[1], of_mask)
    disc = np.hypot(*np.indices((41, 41)) - 20) < 15  # a rotation about the centre leaves it in place
    sample = (np.repeat(np.where(disc, 200, 0).astype(np.uint8)[..., None], 3, axis=2), disc)
    turned = Geometric(0.5)(sample, Told(0, 30.0))
    assert (turned[1] != disc).mean() < 0.03


def test_geometric_changes_have_the_configured_frequency() -> None:
    image, mask = spot()
    same = [np.array_equal(Geometric(0.3)((image, mask), np.random.default_rng(k))[0], image) for k in range(1500)]
    assert np.mean(same) == pytest.approx(0.7**4, abs=0.04)
    for seed in range(20):
        assert np.array_equal(Geometric(0.0)((image, mask), np.random.default_rng(seed))[0], image)


def test_colour_jitter_keeps_the_mask_and_stays_in_its_range() -> None:
    generator = np.random.default_rng(0)
    image, mask = generator.integers(60, 120, (20, 30, 3), dtype=np.uint8), np.zeros((20, 30), bool)
    means = []
    for seed in range(300):
        changed, same = ColourJitter(1.0)((image, mask), np.random.default_rng(seed))
        assert same is mask and changed.dtype == np.uint8 and changed.shape == image.shape
        means.append(changed.mean() / image.mean())
    # contrast keeps the mean grey value and saturation that of each pixel, so the mean shows only the brightness
    assert 0.48 < min(means) < 0.6 and 1.4 < max(means) < 1.52
    changed = [ColourJitter(0.7)((image, mask), np.random.default_rng(k))[0] is not image for k in range(1000)]
    assert np.mean(changed) == pytest.approx(0.7, abs=0.04)


def test_changes_are_applied_in_order() -> None:
    def brighter(sample: Sample, rng: np.random.Generator) -> Sample:
        return sample[0] + 1, sample[1]

    def doubled(sample: Sample, rng: np.random.Generator) -> Sample:
        return sample[0] * 2, ~sample[1]

    image, mask = Changes((brighter, doubled))(1, IMAGES, np.random.default_rng(0))
    assert (image == 24).all() and mask.all()  # row 1: (11 + 1) 2, a normal image
