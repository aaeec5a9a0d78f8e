"""Read images and masks, or say in one line what is wrong with the file."""

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kanoclip.types import InputError

# what Pillow raises for a file that is not an image, or not all of one
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
DIGEST_DIGITS = 32  # hexadecimal digits kept of a SHA-256: 128 bits tell files apart, and an index stays readable


def read_file(path: Path | str) -> bytes:
    """Return all bytes of an image file.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such image; if an index names it, prepare the dataset again")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read the image: {error.strerror}") from error


def digest(content: bytes) -> str:
    """Return the digest by which an index knows the content of a file.

    >>> digest(b"")
    'e3b0c44298fc1c149afbf4c8996fb924'
    """
    return hashlib.sha256(content).hexdigest()[:DIGEST_DIGITS]


def load_image(path: Path | str, content: bytes | None = None) -> Image.Image:
    """Read a whole image as RGB.

    Args:
        path: the image file.
        content: the bytes of the file, if they have been read already.

    Raises:
        InputError: the file is missing, truncated, not an image, or has more than 8 bits per channel (how its values
            map to 8 bits is the owner's choice; Pillow would saturate them).
    """
    return _decode_8_bits(path, content).convert("RGB")


def load_square(path: Path | str, size: int) -> NDArray[np.uint8]:
    """Read an image and squash it to a square with Pillow's bicubic filter, which widens when it shrinks (antialias).

    Every pixel equals that of `open_clip.image_transform(..., resize_mode="squash")` before it is normalised.

    Args:
        path: the image file.
        size: the side S in pixels.

    Returns:
        (S, S, 3) RGB, read-only.

    Raises:
        InputError: as `load_image`.
    """
    image = _decode_8_bits(path)
    if image.mode != "L":  # the channels of a gray image are equal: resizing one of them is enough
        image = image.convert("RGB")
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    return pixels if pixels.ndim == 3 else np.broadcast_to(pixels[..., None], (size, size, 3))


def load_mask(path: Path | str, size: tuple[int, int], content: bytes | None = None) -> NDArray[np.bool_]:
    """Read a mask: every value above 0 is anomalous.

    Args:
        path: the mask file.
        size: (W, H) of its image in pixels, as `PIL.Image.size`.
        content: the bytes of the file, if they have been read already.

    Returns:
        (H, W) bool.

    Raises:
        InputError: the file is missing, truncated, not an image, or its size is not that of its image.
    """
    mask = _decode(path, content)
    if mask.size != size:
        raise InputError(
            f"{path}: the mask is {mask.width}x{mask.height} pixels, its image {size[0]}x{size[1]}; they must agree"
        )
    return np.asarray(mask.convert("L")) > 0


def _decode_8_bits(path: Path | str, content: bytes | None = None) -> Image.Image:
    """Decode an image in its own mode; refuse more than 8 bits per channel."""
    image = _decode(path, content)
    if image.mode.startswith(("I", "F")):
        raise InputError(f"{path}: expected 8 bits per channel, found mode {image.mode}; convert the image to 8 bits")
    return image


def _decode(path: Path | str, content: bytes | None) -> Image.Image:
    """Decode all pixels of an image."""
    content = read_file(path) if content is None else content
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return image
    except BROKEN_IMAGE as error:
        raise InputError(f"{path}: not a whole image ({error}); replace or remove it") from error
