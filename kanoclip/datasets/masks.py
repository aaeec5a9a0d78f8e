"""Ground-truth masks at another resolution."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resize_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Resize a mask by nearest neighbour, so that it stays exact: no threshold has to be chosen.

    Args:
        mask: (H, W) True where anomalous.
        size: (height, width) wanted.

    Returns:
        (height, width) bool.
    """
    height, width = size
    return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST), dtype=bool)
