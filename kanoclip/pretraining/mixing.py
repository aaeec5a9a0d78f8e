"""Mix pairs of a normal and an anomalous image, to vary them far beyond the kinds that the generator draws.

A tower trained on about thirty kinds learns only those. Here scenes are blended, defects are moved to other scenes, and
colours, light, size and sharpness are drawn at random, the same for both images of a pair. The defect stays the only
difference between them, so the tower has to learn what makes a region differ from its surroundings.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from kanoclip.datasets.synthetic.render import VISIBLE
from kanoclip.pretraining.codes import COLOUR, DEFECT, EXTENT, KIND, PLACE, STATE, UNKNOWN
from kanoclip.pretraining.corpus import (
    IMAGE_SIZE,
    LEAST_ANOMALOUS_PIXELS,
    Corpus,
    Views,
    corner,
    numbers_of_crop,
    turned,
)

# Shares of the pairs; the rest keep their own scene and defect.
BLENDED, TRANSPLANTED, FOREIGN = 0.35, 0.2, 0.15
ZOOMED = 0.35
LEAST_WINDOW = 72  # smallest side in pixels of a window that is enlarged to a whole image

FloatPair = NDArray[np.float32]  # (2, S, S, 3) the normal and the anomalous image, 0..255
Mask = NDArray[np.bool_]  # (S, S)


def mixed_views(corpus: Corpus, count: int, rng: np.random.Generator) -> Views:
    """Return a batch of pairs of whole images: even rows are normal, the next row is the same view with a defect.

    Args:
        corpus: where scenes and defects come from.
        count: B, even.
        rng: chooses everything.
    """
    pairs = np.sort(rng.choice(len(corpus.images) // 2, count // 2, replace=False))
    rows = np.stack([2 * pairs, 2 * pairs + 1], axis=1).ravel()
    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    masks = np.zeros((count, IMAGE_SIZE, IMAGE_SIZE), np.bool_)
    numbers = corpus.numbers[rows].copy()
    for index, pair in enumerate(pairs):
        own = slice(2 * index, 2 * index + 2)
        view, mask = _mixed(corpus, int(pair), numbers[own], rng)
        view, mask, numbers[own] = _framed(view, mask, numbers[own], rng)
        images[own] = (recoloured(view, rng) + 0.5).clip(0, 255)
        masks[own.stop - 1] = mask
    numbers[:, COLOUR] = UNKNOWN
    numbers[numbers[:, STATE] != 0, PLACE] = UNKNOWN
    return Views(rows, images, masks, numbers)


def _mixed(corpus: Corpus, pair: int, numbers: NDArray[np.int16], rng: np.random.Generator) -> tuple[FloatPair, Mask]:
    """Return a pair as it is, or crossed with another scene; `numbers` (2, 6) are updated in place."""
    view, mask = _pair(corpus, pair)
    other, other_mask = _pair(corpus, int(rng.integers(len(corpus.images) // 2)))
    chance = rng.random()
    if chance < BLENDED:
        numbers[:, KIND] = UNKNOWN
        share = rng.uniform(0.5, 0.85)
        return share * view + (1 - share) * other[0], mask
    if chance < BLENDED + TRANSPLANTED:
        crossed, where = np.stack([other[0], other[0] + view[1] - view[0]]), mask
    elif chance < BLENDED + TRANSPLANTED + FOREIGN:
        strength = rng.uniform(0.4, 1.0)
        crossed, where = np.stack([view[0], view[0] + strength * (other[0] - view[0])]), other_mask
    else:
        return view, mask
    crossed = crossed.clip(0, 255)
    where = where & (np.abs(crossed[1] - crossed[0]).max(axis=2) >= VISIBLE)
    if where.sum() < LEAST_ANOMALOUS_PIXELS:
        return view, mask
    crossed[1] = np.where(where[..., None], crossed[1], crossed[0])
    numbers[:, KIND], numbers[1, [DEFECT, EXTENT]] = UNKNOWN, UNKNOWN
    return crossed, where


def _pair(corpus: Corpus, pair: int) -> tuple[FloatPair, Mask]:
    rows = np.array([2 * pair, 2 * pair + 1])
    return corpus.images[rows].astype(np.float32), corpus.mask(rows)[1]


def _framed(
    view: FloatPair, mask: Mask, numbers: NDArray[np.int16], rng: np.random.Generator
) -> tuple[FloatPair, Mask, NDArray[np.int16]]:
    """Rotate, mirror and sometimes crop and enlarge a pair, and update its numbers."""
    both, mask = turned(np.concatenate([view[0], view[1]], axis=2), mask, rng)
    if rng.random() < ZOOMED:
        size = int(rng.integers(LEAST_WINDOW, IMAGE_SIZE))
        top, left = corner(mask, size, rng)
        window = (slice(top, top + size), slice(left, left + size))
        planes = [_enlarged(both[window][..., channel]) for channel in range(6)]
        both, mask = np.stack(planes, axis=2), _enlarged(mask[window].astype(np.float32)) > 0.5
        numbers = np.stack([numbers[0], numbers_of_crop(numbers[1], int(mask.sum()))])
    return np.stack([both[..., :3], both[..., 3:]]), mask, numbers


def _enlarged(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(plane).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))


def recoloured(view: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    """Change colours, light and sharpness of both images identically, and add separate noise to each.

    Args:
        view: (2, S, S, 3), 0..255.
        rng: chooses.

    Returns:
        The same shape; not clipped.
    """
    if rng.random() < 0.5:
        view = view[..., rng.permutation(3)]
    if rng.random() < 0.3:
        grey = view.mean(axis=3, keepdims=True)
        view = view + rng.uniform(0.5, 1.0) * (grey - view)
    if rng.random() < 0.15:
        view = 255 - view
    if rng.random() < 0.4:
        view = 255 * (view.clip(0, 255) / 255) ** rng.uniform(0.6, 1.7)
    if rng.random() < 0.6:
        view = view * (rng.uniform(0.65, 1.3) * rng.uniform(0.85, 1.15, 3)) + rng.uniform(-25, 25)
    if rng.random() < 0.3:
        view = view * _slope(view.shape[1], rng)
    if rng.random() < 0.15:
        width = rng.uniform(0.4, 1.2)
        view = gaussian_filter(view, (0, width, width, 0))
    if rng.random() < 0.4:
        view = view + rng.normal(0, rng.uniform(0, 8), view.shape)
    return view


def _slope(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a slope of light across the image: (S, S, 1), about 1."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.4)
    steps = np.linspace(-1, 1, size)
    return (1 + strength * (np.cos(angle) * steps[:, None] + np.sin(angle) * steps[None]) / 1.5)[..., None]
