"""Ground-truth masks at another resolution."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from kanoclip.datasets.images import load_mask

Resize = Literal["nearest", "bilinear"]


def masks_at(frame: pd.DataFrame, size: int, resize: Resize = "nearest") -> Iterator[NDArray[np.bool_]]:
    """Read the masks of some rows of an index, in order.

    Args:
        frame: rows from `read_index`.
        size: side length in pixels.
        resize: see `resize_mask`.

    Yields:
        (size, size) bool for each row; all False where there is no mask.
    """
    for image_path, mask_path in zip(frame["image_path"], frame["mask_path"], strict=True):
        if mask_path == "":
            yield np.zeros((size, size), dtype=bool)
        else:
            with Image.open(image_path) as image:  # reads the header only
                image_size = image.size
            yield resize_mask(load_mask(mask_path, image_size), (size, size), resize)


def resize_mask(mask: NDArray[np.bool_], size: tuple[int, int], resize: Resize = "nearest") -> NDArray[np.bool_]:
    """Resize a mask.

    Args:
        mask: (H, W) True where anomalous.
        size: (height, width) wanted.
        resize: "nearest", so that it stays exact and no threshold has to be chosen; or "bilinear" on 8 bits, smoothed
            where it shrinks, True above 1/2: what Pillow does and torchvision with it, as in AnomalyCLIP's and
            APRIL-GAN's code.

    Returns:
        (height, width) bool.
    """
    height, width = size
    if resize == "nearest":
        return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST), dtype=bool)
    gray = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(gray) > 127.5
