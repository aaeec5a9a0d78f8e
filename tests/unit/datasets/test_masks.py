import numpy as np
import pytest

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
