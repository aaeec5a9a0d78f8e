"""Upsampling and Gaussian smoothing of anomaly maps as one matrix per axis, without torch."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kanoclip.types import SIGMA_REFERENCE_SIZE

TRUNCATE = 4.0  # the kernel reaches this many standard deviations, as in scipy.ndimage.gaussian_filter


def scaled_sigma(sigma: float, size: int) -> float:
    """Return the standard deviation in pixels at an image size, for one that is given at 518 pixels."""
    return sigma * size / SIGMA_REFERENCE_SIZE


def radius(sigma: float) -> int:
    """Return the radius of the kernel in pixels; 0 for no smoothing."""
    return int(TRUNCATE * sigma + 0.5)


@lru_cache(maxsize=64)
def axis_matrix(source: int, target: int, sigma: float) -> NDArray[np.float64]:
    """Return the matrix of bilinear upsampling followed by smoothing along one axis.

    Args:
        source: values along the axis before.
        target: values along the axis after.
        sigma: standard deviation of the Gaussian in target pixels; edges are repeated (reflect mode of scipy).

    Returns:
        (target, source), read-only; rows sum to 1.

    >>> axis_matrix(2, 4, 0.0).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    matrix = _gaussian(target, sigma) @ _bilinear(source, target)
    matrix.flags.writeable = False
    return matrix


def final_map_of(grid: NDArray[np.floating], size: int, sigma: float) -> NDArray[np.float64]:
    """Return the final map of one image: `kanoclip.maps.final_map` for NumPy arrays.

    Args:
        grid: (h, w) anomaly map.
        size: S, pixels per side.
        sigma: standard deviation of the Gaussian in pixels at 518; 0 for none.

    Returns:
        (S, S).
    """
    rows, columns = (axis_matrix(length, size, scaled_sigma(sigma, size)) for length in grid.shape)
    return rows @ grid @ columns.T


def _bilinear(source: int, target: int) -> NDArray[np.float64]:
    """Return (target, source) weights: linear between pixel centres, edges repeated (align_corners False)."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, None)
    below = np.minimum(position.astype(int), source - 1)
    weight = np.where(below + 1 < source, position - below, 0.0)
    matrix = np.zeros((target, source))
    matrix[np.arange(target), below] += 1 - weight
    matrix[np.arange(target), np.minimum(below + 1, source - 1)] += weight
    return matrix


def _gaussian(size: int, sigma: float) -> NDArray[np.float64]:
    """Return (size, size) weights of a truncated Gaussian; beyond an end the edge repeats: d c b a | a b c d."""
    reach = radius(sigma)
    if reach == 0:
        return np.eye(size)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    around = (np.arange(size)[:, None] + offsets) % (2 * size)
    reached = np.minimum(around, 2 * size - 1 - around)  # (size, 2 reach + 1)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], reached), kernel / kernel.sum())
    return matrix
