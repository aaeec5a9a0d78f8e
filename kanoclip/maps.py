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


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Smooth maps with a Gaussian; equals `scipy.ndimage.gaussian_filter` with its defaults (truncate 4, reflect).

    Args:
        maps: (B, H, W).
        sigma: standard deviation in pixels; 0 returns the maps unchanged.

    Returns:
        (B, H, W), within the range of `maps`.
    """
    radius = int(TRUNCATE * sigma + 0.5)
    if radius == 0:
        return maps
    offsets = torch.arange(-radius, radius + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    rows = maps[:, None][..., _mirrored(maps.shape[-2], radius, maps.device), :]  # (B, 1, H + 2r, W)
    maps = F.conv2d(rows, kernel.view(1, 1, -1, 1))
    columns = maps[..., _mirrored(maps.shape[-1], radius, maps.device)]  # (B, 1, H, W + 2r)
    return F.conv2d(columns, kernel.view(1, 1, 1, -1))[:, 0]


def _mirrored(length: int, radius: int, device: torch.device) -> Tensor:
    """Indices of an axis extended by `radius` on both sides with the edge repeated: d c b a | a b c d | d c b a."""
    index = torch.arange(-radius, length + radius, device=device) % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)
