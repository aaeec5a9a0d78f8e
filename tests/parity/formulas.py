"""Formulas that several methods share, in NumPy and float64, one pixel at a time."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def softmax(logits: Array) -> Array:
    """Return the probability (..., h, w) of abnormal from logits (..., 2, h, w), normal first."""
    return np.exp(logits[..., 1, :, :]) / np.exp(logits).sum(-3)


def bilinear(maps: Array, size: int, aligned: bool) -> Array:
    """Interpolate (..., h, h) linearly to (..., S, S).

    Aligned: the centres of the corner cells are the centres of the corner pixels. Otherwise the edges of the grid are
    the edges of the image, and pixels outside the outermost centres take their values.
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
    """Return two cells and their weights."""
    place = pixel * (grid - 1) / (size - 1) if aligned else (pixel + 0.5) * grid / size - 0.5
    place = min(max(place, 0.0), grid - 1.0)
    first = min(int(place), grid - 2)
    return [(first, 1 - (place - first)), (first + 1, place - first)]


def focal(abnormal: Array, mask: NDArray[np.bool_]) -> float:
    """Return the focal loss of APRIL-GAN's code and its successors: labels in 1e-5 .. 1 - 1e-5, log(p + 1e-5)."""
    true, other = np.where(mask, abnormal, 1 - abnormal), np.where(mask, 1 - abnormal, abnormal)
    pt = (1 - 1e-5) * true + 1e-5 * other + 1e-5
    return float(np.mean(-((1 - pt) ** 2) * np.log(pt)))


def dice(probability: Array, mask: NDArray[np.bool_]) -> float:
    """Return the mean dice loss of images (B, S, S)."""
    losses = [1 - (2 * p[m].sum() + 1) / (p.sum() + m.sum() + 1) for p, m in zip(probability, mask, strict=True)]
    return float(np.mean(losses))
