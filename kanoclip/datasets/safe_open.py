"""Open image files safely: only listed formats, with a limit on the number of pixels, and upright as EXIF says."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from kanoclip.types import InputError

# what Pillow raises for a file that is not an image, or is truncated
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
# listed explicitly: Pillow would start Ghostscript for an EPS file, whatever its name
PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")
PAGED_FORMATS = ("TIFF", "GIF", "WEBP")  # every page is an image; of other formats only the first picture is read
MAX_PIXELS = 100_000_000  # per file, all pages together: 300 MB as RGB
LIMIT_VARIABLE = "KANOCLIP_MAX_PIXELS"
NEW_SUBFILE_TYPE, REDUCED = 254, 1  # the TIFF tag and bit that mark a smaller copy of another page
BITS_PER_SAMPLE, SAMPLE_FORMAT, UNSIGNED = 258, 339, 1
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_file(path: Path | str) -> bytes:
    """Return all bytes of an image file.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    if not Path(path).is_file():
        raise InputError(f"{shown(path)}: no such image; if an index names it, prepare the dataset again")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot read the image: {error.strerror}") from error


def shown(path: Path | str) -> str:
    r"""Return a path that is safe in a one-line message.

    >>> shown("two\nlines.png")
    'two\\nlines.png'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(path)
    )


def max_pixels() -> int:
    """Return the largest number of pixels per image file: `KANOCLIP_MAX_PIXELS`, or 100 million.

    Raises:
        InputError: the variable is not a whole number above 0.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return MAX_PIXELS
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InputError(f"{LIMIT_VARIABLE}: expected a whole number of pixels above 0, found '{text}'")
    return int(text)


def check_pixels(path: Path | str, width: int, height: int, images: int = 1) -> None:
    """Refuse a file with more pixels than `max_pixels` before they are decoded.

    Raises:
        InputError: there are more.
    """
    if width * height * images > max_pixels():
        times = f" x {images} images" if images > 1 else ""
        raise InputError(
            f"{shown(path)}: expected at most {max_pixels():,} pixels, found {width} x {height}{times}; "
            f"set {LIMIT_VARIABLE} higher if the file is yours and memory allows"
        )


def broken(path: Path | str, error: BaseException) -> InputError:
    """Return the error for a file that cannot be decoded."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{shown(path)}: not a whole image ({reason}); replace or remove it")


def open_pages(path: Path | str, content: bytes) -> list[Image.Image] | None:
    """Decode all pages of an image with Pillow.

    Args:
        path: for messages.
        content: the bytes of the file.

    Returns:
        The pages in their own mode, upright; None for a TIFF whose values Pillow cannot hold, which
        `kanoclip.datasets.high_bit_depth` reads.

    Raises:
        InputError: the file is not a whole image of `PILLOW_FORMATS`, or has too many pixels.
    """
    try:
        with _opened(path, content) as image:
            if image.format == "TIFF" and _is_deep_tiff(image):
                return None
            return [upright(page) for page in _pages(path, image)]
    except UnidentifiedImageError as error:
        if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
        found = f"its bytes are none of {', '.join(PILLOW_FORMATS)}"
        raise InputError(f"{shown(path)}: not a whole image ({found}); replace or remove it") from error
    except InputError:
        raise
    except BROKEN_IMAGE as error:
        raise broken(path, error) from error


def header_size(path: Path | str) -> tuple[int, int] | None:
    """Return (W, H) of an upright image from its header alone; None if Pillow cannot tell without decoding."""
    try:
        with Image.open(path, formats=PILLOW_FORMATS) as image:
            if image.format == "TIFF":  # whether Pillow has turned the size already depends on its version
                return None
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else image.size
    except BROKEN_IMAGE:
        return None


def upright(image: Image.Image) -> Image.Image:
    """Return an image rotated by its EXIF orientation, or the image itself if it has none."""
    return ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) != 1 else image


def is_deep_colour_png(content: bytes) -> bool:
    """Return whether bytes are a 16-bit colour PNG, of which Pillow keeps the upper 8 bits."""
    return content.startswith(PNG_SIGNATURE) and content[24:25] == b"\x10" and content[25:26] in (b"\2", b"\4", b"\6")


def _opened(path: Path | str, content: bytes) -> Image.Image:
    limit = max_pixels()
    if Image.MAX_IMAGE_PIXELS is not None and limit > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit  # Pillow's own limit holds for the whole process; ours is checked below
    try:
        image = Image.open(io.BytesIO(content), formats=PILLOW_FORMATS)
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{shown(path)}: expected at most {limit:,} pixels, found more; "
            f"set {LIMIT_VARIABLE} higher if the file is yours and memory allows"
        ) from error
    check_pixels(path, *image.size)
    return image


def _pages(path: Path | str, image: Image.Image) -> Iterator[Image.Image]:
    """Yield the decoded pages of an open image, without smaller copies of them."""
    count = getattr(image, "n_frames", 1) if image.format in PAGED_FORMATS else 1
    if count == 1:
        image.load()
        yield image
        return
    pixels = 0
    for number in range(count):
        image.seek(number)
        if number and _tags(image).get(NEW_SUBFILE_TYPE, 0) & REDUCED:
            continue
        pixels += image.width * image.height
        check_pixels(path, pixels, 1)
        yield image.copy()  # decodes the page; the next `seek` changes `image` itself


def _tags(image: Image.Image) -> Any:
    """Return the tags of a TIFF page by number; empty for other formats."""
    return getattr(image, "tag_v2", {})


def _is_deep_tiff(image: Image.Image) -> bool:
    """Return whether a TIFF holds more than 8 bits per channel, or signed or float numbers."""
    bits, kinds = _tags(image).get(BITS_PER_SAMPLE, (1,)), _tags(image).get(SAMPLE_FORMAT, (UNSIGNED,))
    return max(bits) > 8 or max(kinds) > UNSIGNED
