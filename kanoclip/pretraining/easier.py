"""Batches of drawn pairs and composites whose defects are easy to see at first.

A tower that meets barely visible defects from the first step on learns little from photographs. Here the contrast
of every defect falls as the training goes on, some defects give way to crude ones on the same image, and colours change
only mildly.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kanoclip.pretraining.augment import Draw
from kanoclip.pretraining.batches import DevicePool, DeviceViews, crossed_pairs, draw_of_batch, masks_of_views
from kanoclip.pretraining.codes import DEFECT, EXTENT, PLACE, STATE, UNKNOWN
from kanoclip.pretraining.composites import VISIBLE
from kanoclip.pretraining.corpus import LEAST_ANOMALOUS_PIXELS

CRUDE = 0.3  # share of the pairs whose defect is replaced
FIRST_CONTRAST, LAST_CONTRAST = (1.0, 2.0), (0.8, 1.5)  # times that of the defect, at the start and at the end
SMALLEST = 0.07  # half-width of the smallest crude shape, as a share of half the image
SPREAD = 6.0  # the largest crude shape is this many times as wide


def easier_views(
    pools: Sequence[DevicePool], count: int, size: int, progress: float, seed: Sequence[int]
) -> DeviceViews:
    """Draw a batch, an equal share of it from every pool.

    Args:
        pools: drawn pairs, composites.
        count: B, a multiple of twice the number of pools.
        size: pixels per side, at most that of the pools.
        progress: progress of the training, 0..1.
        seed: seed of the batch.
    """
    draw = draw_of_batch(pools, seed)
    images, masks, numbers, facts = crossed_pairs(pools, count, size, draw)
    images = contrasted(images, progress, draw)
    images, masks, replaced = crude(images, masks, draw)
    second = numbers[1::2]  # a view: what is changed in it changes in `numbers`
    changed = replaced.cpu().numpy()
    second[changed, STATE] = 1
    for attribute in (DEFECT, PLACE, EXTENT):
        second[changed, attribute] = UNKNOWN
    return DeviceViews(mildly_recoloured(images, draw).flatten(0, 1), masks_of_views(masks), numbers, facts)


def contrasted(images: Tensor, progress: float, draw: Draw) -> Tensor:
    """Scale what separates the images of a pair.

    Args:
        images: (P, 2, 3, S, S), 0..255.
        progress: progress of the training, 0..1; the factors fall with it.
        draw: chooses.

    Returns:
        The same shape, 0..255; the first images are unchanged.
    """
    low, high = (first + progress * (last - first) for first, last in zip(FIRST_CONTRAST, LAST_CONTRAST, strict=True))
    factor = draw.uniform(low, high, len(images))[:, None, None, None]
    normal = images[:, 0]
    return torch.stack([normal, (normal + factor * (images[:, 1] - normal)).clamp(0, 255)], dim=1)


def crude(images: Tensor, masks: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """Replace the defect of some pairs by a shape that is filled with something else.

    Args:
        images: (P, 2, 3, S, S), 0..255.
        masks: (P, S, S).
        draw: chooses.

    Returns:
        Images, masks, and (P,) whether the defect was replaced.
    """
    count, normal = len(masks), images[:, 0]
    shape = _shapes(count, masks.shape[-1], draw)
    strength = draw.uniform(0.5, 1, count, 1, 1, 1)
    soft = F.avg_pool2d(shape[:, None], 3, 1, 1)
    spoilt = (normal + soft * strength * (_fillings(normal, draw) - normal)).clamp(0, 255)
    seen = shape * ((spoilt - normal).abs().amax(1) >= VISIBLE)
    replaced = draw.chance(CRUDE, count) & (seen.sum((1, 2)) >= LEAST_ANOMALOUS_PIXELS)
    images = torch.where(replaced[:, None, None, None, None], torch.stack([normal, spoilt], dim=1), images)
    return images, torch.where(replaced[:, None, None], seen, masks), replaced


def _shapes(count: int, side: int, draw: Draw) -> Tensor:
    """Wavy ellipses, rectangles and lines: (P, S, S), 0 or 1."""

    def numbers(low: float, high: float) -> Tensor:
        return draw.uniform(low, high, count)[:, None, None]

    steps = torch.linspace(-1, 1, side, device=draw.random.device)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    angle, x, y = numbers(0, torch.pi), x - numbers(-0.8, 0.8), y - numbers(-0.8, 0.8)
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    along = along + numbers(0, 0.08) * (numbers(2, 9) * across + numbers(0, 6)).sin()
    across = across + numbers(0, 0.12) * (numbers(2, 9) * along + numbers(0, 6)).sin()
    width = SMALLEST * SPREAD ** numbers(0, 1)
    u, v = along / width, across / (width * numbers(0.4, 1))
    ellipse = u**2 + v**2 < 1
    rectangle = torch.maximum(u.abs(), v.abs()) < 1
    line = (across.abs() < numbers(0.02, 0.06)) & (along.abs() < numbers(0.2, 0.8))
    every = torch.stack([ellipse, rectangle, line])
    return every[draw.integers(3, count), torch.arange(count, device=every.device)].float()


def _fillings(normal: Tensor, draw: Draw) -> Tensor:
    """Return fillings of crude shapes: a colour, a grey, noise, another image, the shifted image itself, a shadow."""
    count, side = normal.shape[0], normal.shape[-1]
    colour = draw.uniform(0, 255, count, 3, 1, 1).expand_as(normal)
    coarse = F.interpolate(draw.normal((count, 3, side // 4, side // 4)), size=(side, side), mode="bilinear")
    every = torch.stack(
        [
            colour,
            colour.mean(1, keepdim=True).expand_as(normal),
            normal + draw.uniform(25, 70, count, 1, 1, 1) * (0.6 * draw.normal(normal.shape) + coarse),
            normal[torch.randperm(count, generator=draw.random, device=normal.device)],
            torch.roll(normal.flip(-1), (side // 3, side // 4), (-2, -1)),
            normal * draw.uniform(0.35, 0.75, count, 1, 1, 1),
        ]
    )
    return every[draw.integers(6, count), torch.arange(count, device=normal.device)]


def mildly_recoloured(images: Tensor, draw: Draw) -> Tensor:
    """Vary contrast, light and colours of pairs (P, 2, 3, S, S), 0..255, a little; each image gets its own noise."""
    count = images.shape[0]

    def numbers(low: float, high: float, channels: int = 1) -> Tensor:
        return draw.uniform(low, high, count, 1, channels, 1, 1)

    def pick(probability: float, changed: Tensor) -> Tensor:
        return torch.where(draw.chance(probability, count)[:, None, None, None, None], changed, images)

    images = ((images - 128) * numbers(0.8, 1.2) + 128) * numbers(0.85, 1.15) * numbers(0.95, 1.05, 3)
    order = draw.uniform(0, 1, count, 3).argsort(dim=1)[:, None, :, None, None].expand_as(images)
    images = pick(0.25, images.gather(2, order))
    images = pick(0.25, images.mean(dim=2, keepdim=True).expand_as(images))
    return pick(0.3, images + draw.normal(images.shape) * numbers(0, 5)).clamp(0, 255)
