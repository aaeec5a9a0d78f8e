import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kanoclip.datasets.masks import resize_mask


def test_takes_the_pixel_under_the_centre():
    mask = np.random.default_rng(0).random((48, 40)) > 0.5
    rows = ((np.arange(16) + 0.5) * 3).astype(int)
    columns = ((np.arange(8) + 0.5) * 5).astype(int)
    assert np.array_equal(resize_mask(mask, (16, 8)), mask[np.ix_(rows, columns)])


@pytest.mark.parametrize("size", [(48, 40), (96, 80)])
def test_whole_multiples_repeat_pixels(size):
    mask = np.random.default_rng(0).random((48, 40)) > 0.5
    factor = size[0] // 48
    assert np.array_equal(resize_mask(mask, size), mask.repeat(factor, 0).repeat(factor, 1))


@pytest.mark.parametrize("size", [(16, 24), (100, 130), (37, 90)])
def test_bilinear_is_cut_at_a_half(size: tuple[int, int]) -> None:
    """As torch interpolates in floating point, smoothed where it shrinks; values close to 1/2 may fall aside."""
    rng = np.random.default_rng(0)
    mask = np.kron(rng.random((10, 12)) < 0.3, np.ones((5, 6))).astype(bool)  # (50, 72)
    values = torch.from_numpy(mask[None, None].astype(np.float32))
    gray = F.interpolate(values, size=size, mode="bilinear", antialias=True, align_corners=False)[0, 0].numpy()
    clear = np.abs(gray - 0.5) > 0.01
    assert clear.mean() > 0.9
    found = resize_mask(mask, size, "bilinear")
    assert np.array_equal(found[clear], gray[clear] > 0.5)
