"""Test regions in COCO's run-length encoding with a second decoder, and raw maps in one HDF5 file."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from kanoclip.predict import Detector, Threshold, rle
from kanoclip.predict.coco import write_coco
from kanoclip.predict.drawing import Pictures
from kanoclip.predict.find import ImageFiles
from kanoclip.predict.folder import Job, predict_files
from kanoclip.predict.maps_file import write_maps
from kanoclip.predict.regions import regions_of
from kanoclip.types import InputError


def decode(counts: str, height: int, width: int) -> NDArray[np.bool_]:
    """Read COCO's compressed run lengths with a buffer of signed little-endian 5-bit digits."""
    lengths: list[int] = []
    digits: list[int] = []
    for character in counts:
        code = ord(character) - 48
        digits.append(code % 32)
        if code < 32:
            value = sum(digit * 32**place for place, digit in enumerate(digits))
            if digits[-1] >= 16:
                value -= 32 ** len(digits)
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            digits = []
    flat = np.concatenate([np.full(length, bool(turn % 2)) for turn, length in enumerate(lengths)])
    assert not digits and flat.size == height * width
    return flat.reshape(width, height).T


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (37, 23), (200, 150)])
def test_the_regions_of_a_map_are_its_pixels_above_the_threshold(height: int, width: int) -> None:
    values = np.random.default_rng(height).random((height, width))
    for threshold in (0.0, 0.5, 0.97):
        found = regions_of(values, threshold)
        masks = [
            decode(rle.compressed(rle.runs(one.mask, (one.x, one.y), (width, height))), height, width) for one in found
        ]
        assert [int(mask.sum()) for mask in masks] == [one.area for one in found]
        np.testing.assert_array_equal(np.sum([np.zeros((height, width), int), *masks], axis=0), values >= threshold)


def test_long_runs_and_a_known_encoding() -> None:
    """The text is the output of pycocotools 2.0.11 for this mask of 5 x 7."""
    mask = np.zeros((5, 7), bool)
    mask[1:4, 2:5] = mask[2, 5] = True
    (region,) = regions_of(mask.astype(float), 0.5)
    assert rle.compressed(rle.runs(region.mask, (region.x, region.y), (7, 5))) == ";320001N4"
    large = np.zeros((900, 1100), bool)
    large[800:, 1000:] = True
    np.testing.assert_array_equal(decode(rle.compressed(rle.runs(large, (0, 0), (1100, 900))), 900, 1100), large)


@pytest.fixture
def run(detector: Detector, tmp_path: Path) -> Callable[[Path], Path]:
    """Return a function that predicts a folder with HDF5 maps and packs them."""

    def predict(images: Path) -> Path:
        out = tmp_path / "out"
        predict_files(Job(detector, ImageFiles([images]), out, Pictures(out, True, "hdf5"), 2))
        write_maps(out)
        return out

    return predict


def test_coco_has_the_shape_of_every_region(
    detector: Detector, run: Callable[[Path], Path], write_images: Callable[..., Path]
) -> None:
    images = write_images("a.png", "b.png")
    detector.threshold = Threshold(0.5, float(np.median(detector.predict(images / "a.png").map)), "")
    out = run(images)
    write_coco(out)
    coco = json.loads((out / "regions.coco.json").read_text())
    for number, result in enumerate(detector.predict([images / "a.png", images / "b.png"]), start=1):
        shapes = [one["segmentation"] for one in coco["annotations"] if one["image_id"] == number]
        together = sum(decode(one["counts"], *one["size"]) for one in shapes)
        np.testing.assert_array_equal(together, result.mask)


def test_maps_in_one_file_grow_with_a_second_run(
    detector: Detector, run: Callable[[Path], Path], write_images: Callable[..., Path]
) -> None:
    images = write_images("a.png", "sub/größer.png")
    out = run(images)
    write_images("c.png", "d.png", "e.png")
    assert run(images) == out and not (out / "maps.partial").exists()
    with h5py.File(out / "maps.h5") as file:
        names = file["image"].asstr()[:].tolist()
        maps = [file[f"map/{number}"][:] for number in range(len(names))]
    assert sorted(names) == ["a.png", "c.png", "d.png", "e.png", "sub/größer.png"]
    results = detector.predict([images / name for name in names])
    for stored, result in zip(maps, results, strict=True):
        np.testing.assert_allclose(stored, result.square, atol=1e-6)


def test_a_damaged_file_of_maps_is_refused(run: Callable[[Path], Path], write_images: Callable[..., Path]) -> None:
    images = write_images("a.png")
    out = run(images)
    (out / "maps.h5").write_bytes(b"no maps")
    with pytest.raises(InputError, match=r"maps\.h5: expected maps of an earlier run"):
        run(images)
