"""The image itself as a tap, for methods that read pixels."""

import torch.nn.functional as F
from torch import Tensor

from kanoclip.backbones.taps import image_tap
from kanoclip.backbones.tower import Tower


@image_tap("pixels")
def pixels_at(tower: Tower, pixels: Tensor, side: int) -> Tensor:
    """Return the image at another size: (B, 3, S, S) normalised pixels to (B, 3, side, side) RGB in 0..1."""
    return F.interpolate(tower.plain(pixels), (side, side), mode="bilinear", antialias=True).clamp(0, 1)
