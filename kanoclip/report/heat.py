"""Anomaly maps as they are shown: their size, their colours and which values those stand for."""

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from kanoclip.types import SIGMA_REFERENCE_SIZE

SIDE = 256  # images and maps are made squares of this many pixels: as the methods see them
COLOURS = matplotlib.colormaps["inferno"]
COLOUR_QUANTILES = (0.01, 0.99)


def displayed_map(grid: NDArray[np.float32], sigma: float) -> NDArray[np.float64]:
    """Return a map as it is evaluated, but at the size that is shown: upsampled bilinearly, then smoothed.

    Args:
        grid: (h, w) as in scores.h5.
        sigma: the Gaussian's standard deviation in pixels, given at 518 pixels; 0 = none.

    Returns:
        (SIDE, SIDE).
    """
    upsampled = Image.fromarray(grid).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return gaussian_filter(np.asarray(upsampled, dtype=np.float64), sigma * SIDE / SIGMA_REFERENCE_SIZE)


def colour_range(maps: NDArray[np.float64]) -> tuple[float, float]:
    """Return the values drawn darkest and brightest: outliers must not darken all else, a small defect must show."""
    low, high = np.quantile(maps, COLOUR_QUANTILES)
    if high == low:
        high = maps.max()
    return low, (high if high > low else low + 1)
