"""Anomaly maps as they are shown: their size, their colours and which values those stand for."""

import matplotlib
import numpy as np
from numpy.typing import NDArray

SIDE = 256  # images and maps are made squares of this many pixels: as the methods see them
COLOURS = matplotlib.colormaps["inferno"]
COLOUR_QUANTILES = (0.01, 0.99)


def colour_range(maps: NDArray[np.float64]) -> tuple[float, float]:
    """Return the values drawn darkest and brightest: outliers must not darken all else, a small defect must show."""
    low, high = np.quantile(maps, COLOUR_QUANTILES)
    if high == low:
        high = maps.max()
    return low, (high if high > low else low + 1)
