"""Read the images of a dataset."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kanoclip.datasets.decoding import decode, eight_bits, single
from kanoclip.datasets.high_bit_depth import Stack
from kanoclip.datasets.safe_open import header_size, read_file

DIGEST_DIGITS = 32  # hexadecimal digits kept of a SHA-256: 128 bits identify a file, and an index stays readable


def digest(content: bytes) -> str:
    """Return the digest that identifies the content of a file in an index.

    >>> digest(b"")
    'e3b0c44298fc1c149afbf4c8996fb924'
    """
    return hashlib.sha256(content).hexdigest()[:DIGEST_DIGITS]


def load_image(path: Path | str, content: bytes | None = None) -> Image.Image:
    """Read a whole image as RGB, upright and scaled to 8 bits as described in `kanoclip.datasets.decoding`.

    Args:
        path: the image file.
        content: the bytes of the file, if they have been read already.

    Raises:
        InputError: the file is missing, truncated, not an image, holds several images, has more pixels than
            `KANOCLIP_MAX_PIXELS`, or needs the extra `formats`.
    """
    return _decode_8_bits(path, content).convert("RGB")


def load_square(path: Path | str, size: int) -> NDArray[np.uint8]:
    """Read an image and squash it to a square with Pillow's bicubic filter, which antialiases when it shrinks.

    Every pixel equals that of `open_clip.image_transform(..., resize_mode="squash")` before normalisation.

    Args:
        path: the image file.
        size: the side S in pixels.

    Returns:
        (S, S, 3) RGB, read-only.

    Raises:
        InputError: as `load_image`.
    """
    image = _decode_8_bits(path)
    if image.mode != "L":  # the channels of a grey image are equal: resizing one is enough
        image = image.convert("RGB")
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    return pixels if pixels.ndim == 3 else np.broadcast_to(pixels[..., None], (size, size, 3))


def image_size(path: Path | str) -> tuple[int, int]:
    """Return (W, H) of an upright image, for most formats from the header alone.

    Raises:
        InputError: as `load_image`.
    """
    return header_size(path) or load_image(path).size


def _decode_8_bits(path: Path | str, content: bytes | None = None) -> Image.Image:
    """Decode an image in its own mode; scale more than 8 bits per channel."""
    pages = single(path, decode(path, read_file(path) if content is None else content))
    return Image.fromarray(pages.rgb(0)) if isinstance(pages, Stack) else eight_bits(pages[0])
