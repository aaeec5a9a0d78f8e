"""Convert inputs of the Python API to images: paths, Pillow images, arrays and tensors."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kanoclip.datasets.decoding import Frame, eight_bits, read_image, to_rgb
from kanoclip.datasets.safe_open import upright
from kanoclip.types import InputError


def as_frames(given: Any) -> list[Frame]:
    """Return the images of one input as 8-bit RGB.

    Args:
        given: a path, whose file may hold several pages or slices; a Pillow image, turned upright like a
            file; an array or a tensor, see `kanoclip.datasets.decoding.to_rgb`.

    Raises:
        InputError: the input is something else, or its file cannot be read.
    """
    if isinstance(given, str | Path):
        return read_image(given)
    if isinstance(given, Image.Image):
        return [Frame(eight_bits(upright(given)).convert("RGB"), "")]
    if isinstance(given, np.ndarray) or hasattr(given, "detach"):
        return [Frame(to_rgb(given), "")]
    raise InputError(f"image: expected a path, an image, an array or a tensor, found {type(given).__name__}")


def square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Squash an RGB image to a square (S, S, 3), as `kanoclip.datasets.images.load_square`."""
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
