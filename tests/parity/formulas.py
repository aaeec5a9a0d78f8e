"""What the formulas of several methods share, in NumPy and float64, one pixel at a time."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def softmax(logits: Array) -> Array:
    """The abnormal one of (..., 2, h, w), normal first."""
    return np.exp(logits[..., 1, :, :]) / np.exp(logits).sum(-3)


def bilinear(maps: Array, size: int, aligned: bool) -> Array:
    """(..., h, h) to (..., S, S), linear in between.

    Aligned: the centres of the corner cells on those of the corner pixels. Otherwise the edges of the grid on the edges
    of the image, and what lies outside the outermost centres is as they are.
    """
    grid = maps.shape[-1]
    result = np.zeros((*maps.shape[:-2], size, size))
    for y in range(size):
        for x in range(size):
            for row, high in _neighbours(y, grid, size, aligned):
                for column, wide in _neighbours(x, grid, size, aligned):
                    result[..., y, x] += high * wide * maps[..., row, column]
    return result


def _neighbours(pixel: int, grid: int, size: int, aligned: bool) -> list[tuple[int, float]]:
    """Two cells and their weights."""
    place = pixel * (grid - 1) / (size - 1) if aligned else (pixel + 0.5) * grid / size - 0.5
    place = min(max(place, 0.0), grid - 1.0)
    first = min(int(place), grid - 2)
    return [(first, 1 - (place - first)), (first + 1, place - first)]


def focal(abnormal: Array, mask: NDArray[np.bool_]) -> float:
    """As the code that APRIL-GAN's peers share: one-hot labels clamped to 1e-5 .. 1 - 1e-5, 1e-5 in the logarithm."""
    true, other = np.where(mask, abnormal, 1 - abnormal), np.where(mask, 1 - abnormal, abnormal)
    pt = (1 - 1e-5) * true + 1e-5 * other + 1e-5
    return float(np.mean(-((1 - pt) ** 2) * np.log(pt)))


def dice(probability: Array, mask: NDArray[np.bool_]) -> float:
    """Of images (B, S, S), their mean."""
    losses = [1 - (2 * p[m].sum() + 1) / (p.sum() + m.sum() + 1) for p, m in zip(probability, mask, strict=True)]
    return float(np.mean(losses))
