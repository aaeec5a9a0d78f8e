"""Anomaly maps from grid to image: upsampling and Gaussian smoothing, in torch, differentiable."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from kanoclip.resampling import axis_matrix, radius, scaled_sigma

__all__ = ["final_map", "scaled_sigma", "smooth", "upsample", "upsample_and_smooth"]


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample maps bilinearly (align_corners False).

    Args:
        maps: (B, h, w), any range.
        size: (H, W) in pixels.

    Returns:
        (B, H, W), within the range of `maps`.

    >>> upsample(torch.tensor([[[0.0, 1.0]]]), (1, 4)).tolist()
    [[[0.0, 0.25, 0.75, 1.0]]]
    """
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def final_map(maps: Tensor, size: int, sigma: float) -> Tensor:
    """Return the final map, used for metrics, display and thresholds: bilinear upsampling, then Gaussian smoothing.

    Args:
        maps: (B, h, w) anomaly maps, any range.
        size: S, pixels per side.
        sigma: standard deviation of the Gaussian in pixels at 518, scaled with the size; 0 for none.

    Returns:
        (B, S, S), within the range of `maps` up to rounding.

    >>> final_map(torch.eye(2)[None], size=4, sigma=0).diagonal(dim1=1, dim2=2).tolist()
    [[1.0, 0.625, 0.625, 1.0]]
    """
    return upsample_and_smooth(maps, (size, size), scaled_sigma(sigma, size))


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Smooth maps with a Gaussian; equals `scipy.ndimage.gaussian_filter` with its defaults (truncate 4, reflect).

    Args:
        maps: (B, H, W).
        sigma: standard deviation in pixels; 0 returns the maps unchanged.

    Returns:
        (B, H, W), within the range of `maps` up to rounding.

    >>> peak = torch.zeros(1, 3, 3)
    >>> peak[0, 1, 1] = 1
    >>> round(float(smooth(peak, sigma=0.5)[0, 1, 1]), 3)
    0.619
    """
    return upsample_and_smooth(maps, (maps.shape[-2], maps.shape[-1]), sigma)


def upsample_and_smooth(maps: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Return `smooth(upsample(maps, size), sigma)`, computed with one matrix per axis since both are separable.

    Args:
        maps: (B, h, w).
        size: (H, W) in pixels.
        sigma: standard deviation in pixels of the upsampled map.

    Returns:
        (B, H, W), within the range of `maps` up to rounding.

    >>> maps = torch.rand(2, 5, 5)
    >>> torch.allclose(upsample_and_smooth(maps, (20, 20), 1.5), smooth(upsample(maps, (20, 20)), 1.5), atol=1e-6)
    True
    """
    if radius(sigma) == 0:
        return upsample(maps, size)
    rows, columns = (_matrix(maps.shape[axis], size[axis], sigma, maps.dtype, maps.device) for axis in (-2, -1))
    return rows @ maps @ columns.T


@lru_cache(maxsize=64)
def _matrix(source: int, target: int, sigma: float, kind: torch.dtype, device: torch.device) -> Tensor:
    """Return `axis_matrix` cached on a device, since a copy per batch would wait for the device."""
    return torch.tensor(axis_matrix(source, target, sigma)).to(device, kind)
