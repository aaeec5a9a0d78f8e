"""Augment pairs in torch, on the tower's device: crops, crossings with other pairs, colours.

Both images of a pair get the same augmentation, so that the defect stays the only difference between them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kanoclip.datasets.synthetic.render import VISIBLE
from kanoclip.pretraining.corpus import LEAST_ANOMALOUS_PIXELS

BLENDED, TRANSPLANTED, FOREIGN = 0.15, 0.15, 0.1  # shares of the pairs; the rest keep their own scene and defect
SHRUNK = 0.3  # share of small views that show a whole image or nearly so
WHOLE = 0.5  # share of full-size views that show the whole image
AIM = 4  # windows are centred on cells of this many pixels per side
TILTED = 0.25  # share of views that are rotated by angles other than multiples of 90 degrees
OWN, BLEND, TRANSPLANT, FOREIGNER = range(4)  # modes of `mixed`


class Draw:
    """The random numbers of one batch, on a device."""

    def __init__(self, random: torch.Generator) -> None:
        self.random = random

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return uniform numbers in [low, high)."""
        return low + (high - low) * torch.rand(shape, generator=self.random, device=self.random.device)

    def chance(self, probability: float, count: int) -> Tensor:
        """Return (count,) booleans, each True with a probability."""
        return self.uniform(0, 1, count) < probability

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return standard normal numbers."""
        return torch.randn(tuple(shape), generator=self.random, device=self.random.device)

    def integers(self, count: int, *shape: int) -> Tensor:
        """Return integers in 0..count - 1."""
        return torch.randint(count, shape, generator=self.random, device=self.random.device)


def framed(images: Tensor, masks: Tensor, size: int, draw: Draw) -> tuple[Tensor, Tensor]:
    """Crop, rotate, mirror and resize every pair at random.

    Args:
        images: (P, 2, 3, S, S).
        masks: (P, S, S).
        size: pixels per side of the result, S or half of it.
        draw: chooses.

    Returns:
        (P, 2, 3, size, size) and (P, size, size).
    """
    count, side = masks.shape[0], masks.shape[-1]
    planes = torch.cat([images.flatten(1, 2), masks[:, None]], dim=1)  # (P, 7, S, S)
    if size == side:
        window = torch.where(draw.chance(WHOLE, count), 1.0, draw.uniform(0.56, 1.0, count))
        grid = _grid(masks, window, size, draw)
        out = F.grid_sample(planes, grid, padding_mode="reflection", align_corners=False)
    else:
        shrunk = draw.chance(SHRUNK, count)
        window = torch.where(shrunk, draw.uniform(0.8, 1.0, count), draw.uniform(0.42, 0.66, count))
        grid = _grid(masks, window, size, draw)
        out = F.grid_sample(planes, grid, padding_mode="reflection", align_corners=False)
        if shrunk.any():
            out[shrunk] = F.grid_sample(
                F.avg_pool2d(planes[shrunk], 2), grid[shrunk], padding_mode="reflection", align_corners=False
            )
    return out[:, :6].unflatten(1, (2, 3)), (out[:, 6] > 0.35).float()


def _grid(masks: Tensor, window: Tensor, size: int, draw: Draw) -> Tensor:
    """Return sampling grids (P, size, size, 2) of windows (P,), given as shares of the side, mostly around defects."""
    count, side = masks.shape[0], masks.shape[-1]
    room = 1 - window
    centre = draw.uniform(-1, 1, count, 2) * room[:, None]
    coarse = F.max_pool2d(masks[:, None], AIM)[:, 0]
    cell = (coarse.flatten(1) * draw.uniform(0.5, 1, count, (side // AIM) ** 2)).argmax(dim=1)
    aim = torch.stack([cell % (side // AIM), cell // (side // AIM)], dim=1) * (2 * AIM / side) - 1
    aim = aim + draw.uniform(-0.8, 0.8, count, 2) * window[:, None]
    aimed = draw.chance(0.67, count) & masks.flatten(1).any(dim=1)
    centre = torch.where(aimed[:, None], aim, centre).clamp(-room[:, None], room[:, None])
    angle = draw.integers(4, count) * (torch.pi / 2)
    angle = angle + torch.where(draw.chance(TILTED, count), draw.uniform(-0.6, 0.6, count), torch.zeros_like(window))
    cos, sin, mirror = angle.cos(), angle.sin(), 1 - 2.0 * draw.integers(2, count)
    theta = torch.stack([cos * mirror, -sin, sin * mirror, cos], dim=1).view(count, 2, 2) * window[:, None, None]
    return F.affine_grid(torch.cat([theta, centre[:, :, None]], dim=2), [count, 1, size, size], align_corners=False)


def mixed(images: Tensor, masks: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """Cross some pairs with another pair of the batch.

    "Blended" adds a part of another normal image to both images; "transplanted" moves the defect to another normal
    image; "foreign" replaces the defect by a piece of another image in the shape of that image's defect.

    Args:
        images: (P, 2, 3, S, S).
        masks: (P, S, S).
        draw: chooses.

    Returns:
        Images, masks, and the mode (P,) of every pair, OWN where the crossed defect would be invisible.
    """
    count = len(masks)
    partner = torch.randperm(count, generator=draw.random, device=masks.device)
    other, other_mask = images[partner, 0], masks[partner]
    chance = draw.uniform(0, 1, count)
    edges = torch.tensor([BLENDED, BLENDED + TRANSPLANTED, BLENDED + TRANSPLANTED + FOREIGN], device=masks.device)
    mode = (torch.bucketize(chance, edges, right=True) + 1) % 4
    normal, spoilt = images[:, 0], images[:, 1]
    share = draw.uniform(0.6, 0.9, count)[:, None, None, None]
    strength = draw.uniform(0.3, 1.0, count)[:, None, None, None]
    crossed = torch.stack(
        [
            images,
            share[:, None] * images + (1 - share[:, None]) * other[:, None],
            torch.stack([other, (other + spoilt - normal).clamp(0, 255)], dim=1),
            torch.stack([normal, normal + strength * (other - normal)], dim=1),
        ]
    )[mode, torch.arange(count, device=masks.device)]
    where = torch.where((mode == FOREIGNER)[:, None, None], other_mask, masks)
    difference = (crossed[:, 1] - crossed[:, 0]).abs().amax(dim=1)
    moved = (mode == TRANSPLANT) | (mode == FOREIGNER)
    where = torch.where(moved[:, None, None], where * (difference >= VISIBLE), where)
    lost = moved & (where.sum((1, 2)) < LEAST_ANOMALOUS_PIXELS)
    mode = torch.where(lost, OWN, mode)
    crossed = torch.where(lost[:, None, None, None, None], images, crossed)
    where = torch.where(lost[:, None, None], masks, where)
    outside = (mode == TRANSPLANT) | (mode == FOREIGNER)
    outside = outside[:, None, None, None] & (where[:, None] == 0)
    second = torch.where(outside, crossed[:, 0], crossed[:, 1])
    return torch.stack([crossed[:, 0], second], dim=1), where, mode


def recoloured(images: Tensor, draw: Draw) -> Tensor:
    """Change colours, light and sharpness of both images of a pair identically, and add separate noise to each.

    Args:
        images: (P, 2, 3, S, S), 0..255.
        draw: chooses.

    Returns:
        The same shape, 0..255.
    """
    count, side = images.shape[0], images.shape[-1]

    def pick(probability: float, changed: Tensor, plain: Tensor) -> Tensor:
        return torch.where(draw.chance(probability, count)[:, None, None, None, None], changed, plain)

    def numbers(low: float, high: float, channels: int = 1) -> Tensor:
        return draw.uniform(low, high, count, 1, channels, 1, 1)

    order = draw.uniform(0, 1, count, 3).argsort(dim=1)[:, None, :, None, None].expand_as(images)
    images = pick(0.4, images.gather(2, order), images)
    grey = images.mean(dim=2, keepdim=True)
    images = pick(0.35, images + numbers(0.5, 1.0) * (grey - images), images)
    images = pick(0.12, 255 - images, images)
    images = pick(0.4, 255 * (images.clamp(0, 255) / 255 + 1e-4) ** numbers(0.6, 1.7), images)
    images = pick(0.6, images * numbers(0.65, 1.3) * numbers(0.88, 1.12, 3) + numbers(-25, 25), images)
    steps, angle = torch.linspace(-1, 1, side, device=images.device), numbers(0, 2 * torch.pi)
    slope = angle.cos() * steps + angle.sin() * steps[:, None]
    images = pick(0.25, images * (1 + numbers(0.1, 0.35) * slope), images)
    blurred = draw.chance(0.2, count)
    sharp = images[blurred]
    images[blurred] = sharp + numbers(0.3, 1.0)[blurred] * (_smooth(sharp) - sharp)
    return pick(0.35, images + draw.normal(images.shape) * numbers(0, 9), images).clamp(0, 255)


def _smooth(images: Tensor) -> Tensor:
    """Return means over 3 by 3 pixels of (P, 2, 3, S, S)."""
    planes = F.pad(images.flatten(0, 1), (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(planes, 3, 1).view_as(images)
