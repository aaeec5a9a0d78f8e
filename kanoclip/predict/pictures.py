"""The one place where prediction reads image files: what counts as an image, and the pictures in a file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kanoclip.datasets.folders import IMAGE_SUFFIXES
from kanoclip.datasets.images import load_image


@dataclass(frozen=True)
class Frame:
    """A picture.

    Attributes:
        image: RGB.
        name_suffix: tells the pictures of one file apart, such as "#3" for the third page; "" for a single one.
    """

    image: Image.Image
    name_suffix: str = ""


def is_image_name(path: Path) -> bool:
    """Whether a file is an image by its name; hidden files are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_frames(path: Path) -> list[Frame]:
    """Return the pictures in a file.

    Raises:
        InputError: the file is missing or is no whole image.
    """
    return [Frame(load_image(path))]


def square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Squash an RGB image to a square (S, S, 3), as `kanoclip.datasets.images.load_square`."""
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
