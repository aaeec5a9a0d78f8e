"""Which pixels a mask marks, and masks at another resolution."""

import nibabel
import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from PIL import Image

from kanoclip.datasets.masks import load_mask, resize_mask
from kanoclip.types import InputError

MARKED = np.random.default_rng(0).random((5, 7)) > 0.6
SIZE = (7, 5)


def painted(*colour):
    """Return an image with a colour at the marked pixels and zeros elsewhere."""
    return np.where(MARKED[..., None], colour, 0).astype(np.uint8)


def found(path):
    return load_mask(path, SIZE)


def refused(path, message):
    with pytest.raises(InputError, match=message) as caught:
        found(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("colour", [(0, 0, 1), (1, 0, 0), (0, 1, 0), (255, 255, 255)])
@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_any_channel_above_zero_marks_a_pixel(tmp_path, colour, suffix):
    path = tmp_path / f"mask.{suffix}"
    Image.fromarray(painted(*colour)).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(found(path), MARKED)


@pytest.mark.parametrize("colours", [[(0, 0, 0), (0, 0, 1)], [(3, 0, 0), (0, 0, 0)]])
def test_a_palette_is_read_by_its_colours(tmp_path, colours):
    background = colours.index((0, 0, 0))
    mask = Image.fromarray(np.where(MARKED, 1 - background, background).astype(np.uint8), "P")
    mask.putpalette([value for colour in colours for value in colour])
    mask.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(found(tmp_path / "mask.png"), MARKED)


def test_a_palette_of_only_black_is_refused(tmp_path):
    mask = Image.fromarray(MARKED.astype(np.uint8), "P")
    mask.putpalette([0, 0, 0] * 2)
    mask.save(tmp_path / "mask.png")
    refused(tmp_path / "mask.png", "the entries 0, 1 of the palette are all black")


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (9, 9, 9)])
def test_alpha_marks_pixels_if_the_colour_is_uniform(tmp_path, colour):
    pixels = np.concatenate([np.full((5, 7, 3), colour), MARKED[..., None] * 255], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(found(tmp_path / "mask.png"), MARKED)


@pytest.mark.parametrize("alpha", [255, 1])
def test_alpha_above_zero_everywhere_is_ignored(tmp_path, alpha):
    pixels = np.concatenate([painted(0, 0, 1), np.full((5, 7, 1), alpha, np.uint8)], axis=2)
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(found(tmp_path / "mask.png"), MARKED)


def test_alpha_and_colours_that_differ_are_refused(tmp_path):
    Image.fromarray(painted(0, 0, 1, 3)).save(tmp_path / "same.png")
    np.testing.assert_array_equal(found(tmp_path / "same.png"), MARKED)
    pixels = painted(0, 0, 1, 3)
    pixels[..., 3] = np.roll(pixels[..., 3], 1, axis=1)
    Image.fromarray(pixels).save(tmp_path / "other.png")
    refused(tmp_path / "other.png", "not the same; save it without alpha")
    pixels[..., 3] = 0
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    refused(tmp_path / "clear.png", "alpha marks 0")


@pytest.mark.parametrize("value", [0.5, 1e-6, 7])
def test_float_masks_are_read(tmp_path, value):
    tifffile.imwrite(tmp_path / "mask.tif", np.where(MARKED, value, 0).astype(np.float32))
    np.testing.assert_array_equal(found(tmp_path / "mask.tif"), MARKED)
    nibabel.save(
        nibabel.Nifti1Image(np.where(MARKED, value, 0)[::-1].T.astype(np.float32), np.eye(4)), tmp_path / "mask.nii"
    )
    np.testing.assert_array_equal(found(tmp_path / "mask.nii"), MARKED)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_masks_are_read(tmp_path, suffix):
    Image.fromarray(MARKED.astype(np.uint16)).save(tmp_path / f"mask.{suffix}")
    np.testing.assert_array_equal(found(tmp_path / f"mask.{suffix}"), MARKED)


def test_a_mask_with_nan_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "mask.tif", np.where(MARKED, np.nan, 0).astype(np.float32))
    refused(tmp_path / "mask.tif", "found NaN")


def test_nearest_takes_the_pixel_at_the_centre():
    mask = np.random.default_rng(0).random((48, 40)) > 0.5
    rows = ((np.arange(16) + 0.5) * 3).astype(int)
    columns = ((np.arange(8) + 0.5) * 5).astype(int)
    assert np.array_equal(resize_mask(mask, (16, 8)), mask[np.ix_(rows, columns)])


@pytest.mark.parametrize("size", [(48, 40), (96, 80)])
def test_nearest_repeats_pixels_at_whole_multiples(size):
    mask = np.random.default_rng(0).random((48, 40)) > 0.5
    factor = size[0] // 48
    assert np.array_equal(resize_mask(mask, size), mask.repeat(factor, 0).repeat(factor, 1))


@pytest.mark.parametrize("size", [(16, 24), (100, 130), (37, 90)])
def test_bilinear_is_thresholded_at_one_half(size: tuple[int, int]) -> None:
    """Compare with torch in floating point, with antialiasing; values close to 1/2 are left out."""
    rng = np.random.default_rng(0)
    mask = np.kron(rng.random((10, 12)) < 0.3, np.ones((5, 6))).astype(bool)  # (50, 72)
    values = torch.from_numpy(mask[None, None].astype(np.float32))
    gray = F.interpolate(values, size=size, mode="bilinear", antialias=True, align_corners=False)[0, 0].numpy()
    clear = np.abs(gray - 0.5) > 0.01
    assert clear.mean() > 0.9
    found = resize_mask(mask, size, "bilinear")
    assert np.array_equal(found[clear], gray[clear] > 0.5)
