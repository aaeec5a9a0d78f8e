"""Anomaly maps from grid to image: upsampling and Gaussian smoothing, in torch, differentiable."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kanoclip.types import SIGMA_REFERENCE_SIZE

TRUNCATE = 4.0  # the kernel reaches this many standard deviations, as in scipy.ndimage.gaussian_filter


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample maps bilinearly (align_corners False).

    Args:
        maps: (B, h, w), any range.
        size: (H, W) in pixels.

    Returns:
        (B, H, W), within the range of `maps`.
    """
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def scaled_sigma(sigma: float, size: int) -> float:
    """The standard deviation in pixels at an image size, for one that is given at 518 pixels."""
    return sigma * size / SIGMA_REFERENCE_SIZE


def final_map(maps: Tensor, size: int, sigma: float) -> Tensor:
    """Return the map that is evaluated, shown and thresholded: upsampled bilinearly, then smoothed with a Gaussian.

    Args:
        maps: (B, h, w) anomaly maps, any range.
        size: S, pixels per side.
        sigma: standard deviation of the Gaussian in pixels at 518, scaled with the size; 0 for none.

    Returns:
        (B, S, S), within the range of `maps` up to rounding.
    """
    return upsample_and_smooth(maps, (size, size), scaled_sigma(sigma, size))


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Smooth maps with a Gaussian; equals `scipy.ndimage.gaussian_filter` with its defaults (truncate 4, reflect).

    Args:
        maps: (B, H, W).
        sigma: standard deviation in pixels; 0 returns the maps unchanged.

    Returns:
        (B, H, W), within the range of `maps` up to rounding.
    """
    return upsample_and_smooth(maps, (maps.shape[-2], maps.shape[-1]), sigma)


def upsample_and_smooth(maps: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Equals `smooth(upsample(maps, size), sigma)`; both are linear along each axis, so it is one matrix an axis.

    Args:
        maps: (B, h, w).
        size: (H, W) in pixels.
        sigma: standard deviation in pixels of the upsampled map.

    Returns:
        (B, H, W), within the range of `maps` up to rounding.
    """
    if _radius(sigma) == 0:
        return upsample(maps, size)
    rows, columns = (_axis(maps.shape[axis], size[axis], sigma).to(maps) for axis in (-2, -1))
    return rows @ maps @ columns.T


def _radius(sigma: float) -> int:
    return int(TRUNCATE * sigma + 0.5)


def _axis(source: int, target: int, sigma: float) -> Tensor:
    """(target, source) float64: what upsampling and smoothing do to one axis."""
    radius = _radius(sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    # the axis goes on beyond its ends with the edge repeated: d c b a | a b c d | d c b a
    around = torch.arange(-radius, target + radius) % (2 * target)
    reached = torch.minimum(around, 2 * target - 1 - around).unfold(0, len(kernel), 1)  # (target, 2r + 1)
    gaussian = torch.zeros(target, target, dtype=torch.float64)
    gaussian.scatter_add_(1, reached, (kernel / kernel.sum()).expand(target, -1))
    return gaussian @ upsample(torch.eye(source, dtype=torch.float64)[None], (source, target))[0].T
