"""Views of an image: CLIP's class feature of rotated, shifted, mirrored and grey versions (AnoVL, Deng 2023).

The 22 views of the released code: the image; rotations by ±45, ±33.75, ±22.5 and ±11.25 degrees; shifts along the
diagonals by 10 % and 5 % of the size; the mirror image; a grey image; rotations by 90, 180 and 270 degrees. Areas
outside the image are filled by reflection.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from kanoclip.backbones.taps import Tap, image_tap
from kanoclip.backbones.tower import Tower
from kanoclip.backbones.windows import TOKENS_AT_ONCE
from kanoclip.types import InputError

ANGLES = (-45.0, -33.75, -22.5, -11.25, 11.25, 22.5, 33.75, 45.0)  # degrees
SHIFTS = tuple((x * size, y * size) for size in (0.2, 0.1) for x, y in ((1, 1), (-1, 1), (-1, -1), (1, -1)))
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in gray

View = Callable[[Tensor], Tensor]


def moved(pixels: Tensor, degrees: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Rotate images about their centre, or shift them, with bilinear sampling and reflection at the edges.

    Args:
        pixels: (B, 3, S, S).
        degrees: rotation angle in degrees.
        shift: shift of the sampling grid, to the right and down, in half image sizes.

    Returns:
        (B, 3, S, S).
    """
    angle = math.radians(degrees)
    matrix = [[math.cos(angle), -math.sin(angle), shift[0]], [math.sin(angle), math.cos(angle), shift[1]]]
    places = F.affine_grid(
        torch.tensor([matrix], dtype=pixels.dtype, device=pixels.device).expand(pixels.shape[0], -1, -1),
        list(pixels.shape),
        align_corners=True,
    )
    return F.grid_sample(pixels, places, padding_mode="reflection", align_corners=True)


def gray(pixels: Tensor) -> Tensor:
    """Convert normalised images (B, 3, S, S) to grey, repeated in three channels.

    The channels are normalised already, as in the released code.
    """
    weights = torch.tensor(LUMA, dtype=pixels.dtype, device=pixels.device).view(3, 1, 1)
    return (pixels * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1)


VIEWS: tuple[View, ...] = (
    lambda pixels: pixels,
    *(partial(moved, degrees=angle) for angle in ANGLES),
    *(partial(moved, shift=shift) for shift in SHIFTS),
    lambda pixels: pixels.flip(-1),
    gray,
    *(partial(torch.rot90, k=quarter, dims=(2, 3)) for quarter in (1, 2, 3)),
)


@image_tap("views")
def view_features(tower: Tower, pixels: Tensor, count: int) -> Tensor:
    """Compute the projected class token of each view.

    Args:
        tower: CLIP's image tower.
        pixels: (B, 3, S, S), normalised.
        count: views, 1 to 22; the first is the image itself.

    Returns:
        (B, count, C) unit vectors.

    Raises:
        InputError: `count` is too large.
    """
    if count > len(VIEWS):
        raise InputError(
            f"tap {Tap('views', count, tower.name)}: there are {len(VIEWS)} views; choose at most this number"
        )
    last = Tap("cls", tower.layers, tower.name)
    tokens = tower.grid[0] * tower.grid[1] + tower.prefix
    at_once = max(1, TOKENS_AT_ONCE.get(pixels.device.type, 65_536) // tokens)

    def embed(images: Tensor) -> Tensor:
        return tower.project(tower.run(tower.embed(images), watch=[last])[last])

    def in_parts(images: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # a graph cannot hold a number of parts that follows the batch
            return embed(images)
        return torch.cat([embed(part) for part in images.split(at_once)])

    return torch.stack([in_parts(view(pixels)) for view in VIEWS[:count]], dim=1)
