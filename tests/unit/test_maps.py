import numpy as np
import pytest
import scipy.ndimage
import torch

from kanoclip.maps import final_map, scaled_sigma, smooth, upsample, upsample_and_smooth
from kanoclip.resampling import final_map_of


@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.3, 1.0, 4.0, 9.0])
def test_smooth_equals_scipy(sigma: float) -> None:
    maps = torch.rand(3, 17, 23, dtype=torch.float64)
    expected = np.stack([scipy.ndimage.gaussian_filter(m.numpy(), sigma) for m in maps])
    np.testing.assert_allclose(smooth(maps, sigma).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.0, 1.5, 6.0])
def test_combined_upsampling_and_smoothing_equals_the_two_steps(sigma: float) -> None:
    maps = torch.rand(3, 5, 7, dtype=torch.float64)
    upsampled = upsample(maps, (31, 40)).numpy()
    expected = np.stack([scipy.ndimage.gaussian_filter(m, sigma) for m in upsampled])
    np.testing.assert_allclose(upsample_and_smooth(maps, (31, 40), sigma).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.0, 40.0])
def test_the_final_map_is_upsampled_then_smoothed_by_sigma_at_518_pixels(sigma: float) -> None:
    """Check the torch and the NumPy version."""
    maps = torch.rand(2, 5, 7, dtype=torch.float64)
    upsampled = torch.nn.functional.interpolate(maps[:, None], (37, 37), mode="bilinear")[:, 0]
    expected = np.stack([scipy.ndimage.gaussian_filter(m.numpy(), sigma * 37 / 518) for m in upsampled])
    np.testing.assert_allclose(final_map(maps, 37, sigma).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose([final_map_of(m.numpy(), 37, sigma) for m in maps], expected, atol=1e-12)


def test_sigma_scales_with_the_image() -> None:
    assert scaled_sigma(4, 518) == 4
    assert scaled_sigma(4, 259) == 2


def test_upsampling_equals_values_by_hand() -> None:
    """With half-pixel centres, 4 samples from 2 lie at -0.25, 0.25, 0.75 and 1.25; the outer two are clamped."""
    row = upsample(torch.tensor([[[0.0, 1.0]]]), (1, 4))[0, 0]
    assert row.tolist() == pytest.approx([0, 0.25, 0.75, 1])


def test_upsample_to_the_same_size_changes_nothing() -> None:
    maps = torch.rand(2, 5, 7)
    assert torch.equal(upsample(maps, (5, 7)), maps)
