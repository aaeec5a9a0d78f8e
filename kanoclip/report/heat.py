"""Size and colour scale of displayed anomaly maps."""

import matplotlib
import numpy as np
from numpy.typing import NDArray

SIDE = 256  # pixels per side; images and maps are shown as squares, as the methods see them
COLOURS = matplotlib.colormaps["inferno"]
COLOUR_QUANTILES = (0.01, 0.99)


def colour_range(maps: NDArray[np.float64]) -> tuple[float, float]:
    """Return the map values drawn darkest and brightest, robust to outliers but sensitive to small defects."""
    low, high = np.quantile(maps, COLOUR_QUANTILES)
    if high == low:
        high = maps.max()
    return low, (high if high > low else low + 1)
