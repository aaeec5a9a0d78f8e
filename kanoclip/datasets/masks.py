"""Ground-truth masks at another resolution."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from kanoclip.datasets.images import load_mask


def masks_at(frame: pd.DataFrame, size: int) -> Iterator[NDArray[np.bool_]]:
    """Read the masks of some rows of an index, in order.

    Args:
        frame: rows from `read_index`.
        size: side length in pixels.

    Yields:
        (size, size) bool for each row; all False where there is no mask.
    """
    for image_path, mask_path in zip(frame["image_path"], frame["mask_path"], strict=True):
        if mask_path == "":
            yield np.zeros((size, size), dtype=bool)
        else:
            with Image.open(image_path) as image:  # reads the header only
                image_size = image.size
            yield resize_mask(load_mask(mask_path, image_size), (size, size))


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
