"""Convert image files and arrays to 8-bit RGB, for the commands, the Python API and the benchmark.

8-bit values are kept: alpha is dropped, palettes and greys become RGB, and EXIF turns the image upright.
16-bit and float values are scaled so that the 0.1st and 99.9th percentiles of the file (all its pages or slices)
become black and white; a DICOM file is scaled by its window if it has one. A 16-bit colour PNG keeps the upper 8 bits,
as Pillow reads it.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kanoclip.datasets.high_bit_depth import Stack, by_percentiles, library, read_dicom, read_nifti, read_tiff
from kanoclip.datasets.safe_open import broken, check_pixels, open_pages, read_file, shown
from kanoclip.types import InputError

PILLOW_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
HEIF_SUFFIXES = (".heic", ".heif")
DICOM_SUFFIXES = (".dcm", ".dicom")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
IMAGE_SUFFIXES = tuple(sorted((*PILLOW_SUFFIXES, *HEIF_SUFFIXES, *DICOM_SUFFIXES, *NIFTI_SUFFIXES)))

Pages = list[Image.Image] | Stack


@dataclass(frozen=True)
class Frame:
    """One image of a file.

    Attributes:
        image: 8-bit RGB.
        name_suffix: "" if the file holds one image, otherwise "#3" for its third.
    """

    image: Image.Image
    name_suffix: str


def is_image_name(path: Path | str) -> bool:
    """Return whether a file name has the suffix of a readable image.

    >>> is_image_name("brain.NII.GZ"), is_image_name("notes.txt")
    (True, False)
    """
    return Path(path).name.lower().endswith(IMAGE_SUFFIXES)


def stem(path: Path | str) -> str:
    """Return the name of a file without the suffix of an image, of which the longest counts.

    >>> stem("scans/brain.a.NII.GZ"), stem("Part5.jpg")
    ('brain.a', 'Part5')
    """
    name = Path(path).name
    suffixes = [suffix for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)]
    return name[: -len(max(suffixes, key=len))] if suffixes else Path(name).stem


def read_image(path: Path | str, axis: int = 2) -> list[Frame]:
    """Read all images of a file as RGB.

    Args:
        path: an image file; DICOM files with frames, NIfTI volumes (slices), and TIFF, GIF or WebP files with pages
            hold several images.
        axis: the axis along which a NIfTI volume is sliced: 0 left to right, 1 back to front, 2 feet to head.

    Returns:
        The images in order, at least one.

    Raises:
        InputError: the file is missing, damaged, larger than `KANOCLIP_MAX_PIXELS`, or needs the extra `formats`.
    """
    images = list(rgb_images(decode(path, read_file(path), axis)))
    if len(images) == 1:
        return [Frame(images[0], "")]
    return [Frame(image, f"#{number}") for number, image in enumerate(images, start=1)]


def decode(path: Path | str, content: bytes, axis: int = 2) -> Pages:
    """Decode the bytes of a file; its name and then its content determine the format.

    Returns:
        Pages of 8 bits in their own mode (or of Pillow's modes I and F, not scaled yet), or a `Stack`.

    Raises:
        InputError: as `read_image`.
    """
    name = Path(path).name.lower()
    if name.endswith(DICOM_SUFFIXES):
        return read_dicom(path, content)
    if name.endswith(NIFTI_SUFFIXES):
        return read_nifti(path, content, axis)
    if name.endswith(HEIF_SUFFIXES):
        return [_read_heif(path, content)]
    pages = open_pages(path, content)
    return read_tiff(path, content) if pages is None else pages


def rgb_images(pages: Pages) -> Iterator[Image.Image]:
    """Yield decoded pages as 8-bit RGB."""
    if isinstance(pages, Stack):
        yield from (Image.fromarray(pages.rgb(number)) for number in range(len(pages.values)))
    else:
        yield from (eight_bits(page).convert("RGB") for page in pages)


def eight_bits(image: Image.Image) -> Image.Image:
    """Return an image as it is, or, with more than 8 bits, scaled by its percentiles to grey."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    return Image.fromarray(np.round(255 * by_percentiles(values)(values)).astype(np.uint8))


def to_rgb(array: Any, limits: tuple[float, float] | None = None) -> Image.Image:
    """Return an array as an 8-bit RGB image.

    Args:
        array: NumPy array or torch tensor (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), whose alpha is dropped. A tensor
            may also have its channels first.
        limits: the values that become black and white. By default uint8 is kept as it is, bool and floats are in 0..1,
            and other integers are scaled by their 0.1st and 99.9th percentiles.

    Raises:
        InputError: another shape or type, NaN or infinity, floats outside 0..1 without limits.

    >>> to_rgb(np.array([[0.0, 1.0]])).getpixel((1, 0))
    (255, 255, 255)
    >>> to_rgb(np.array([[0, 500]], np.uint16), limits=(0, 1000)).getpixel((1, 0))
    (128, 128, 128)
    """
    is_tensor = hasattr(array, "detach")
    if is_tensor:
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    values = np.asarray(array)
    if is_tensor and values.ndim == 3 and values.shape[0] in (1, 3, 4) and values.shape[2] not in (1, 3, 4):
        values = np.moveaxis(values, 0, 2)
    channels = values.shape[2] if values.ndim == 3 else 1
    if values.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in values.shape:
        raise InputError(f"an image as an array: expected the shape (H, W) or (H, W, 3), found {values.shape}")
    check_pixels("an image as an array", values.shape[1], values.shape[0])
    values = values[..., :3] if channels > 1 else values.reshape(values.shape[:2])
    if values.dtype != np.uint8 or limits is not None:
        values = np.round(255 * _scale_of(values, limits)).astype(np.uint8)
    return Image.fromarray(values).convert("RGB")


def _scale_of(values: NDArray[Any], limits: tuple[float, float] | None) -> NDArray[np.floating]:
    """Return values scaled to 0..1 by the rules of `to_rgb`."""
    is_float = np.issubdtype(values.dtype, np.floating)
    if not (is_float or np.issubdtype(values.dtype, np.integer) or values.dtype == bool):
        raise InputError(f"an image as an array: expected integers, floats or bool, found {values.dtype}")
    if is_float and not np.isfinite(values).all():
        raise InputError("an image as an array: expected finite values, found NaN or infinity")
    if limits is not None:
        low, high = limits
        if not low < high:
            raise InputError(f"limits of an image: expected the lower first, found {low} and {high}")
        return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    if values.dtype == bool:
        return values.astype(np.float64)
    if not is_float:
        return by_percentiles(values)(values)
    if values.min() < 0 or values.max() > 1:
        raise InputError(
            f"an image as an array: expected floats in 0..1, found {values.min():g} to {values.max():g}; give limits"
        )
    return values.astype(np.float64)


def _read_heif(path: Path | str, content: bytes) -> Image.Image:
    """Decode the primary image of a HEIC file, turned as the file says."""
    heif = library("pillow_heif", path)
    try:
        file = heif.open_heif(io.BytesIO(content))
        check_pixels(path, *file.size)
        return file.to_pillow()
    except InputError:
        raise
    except Exception as error:
        raise broken(path, error) from error


def single(path: Path | str, pages: Pages) -> Pages:
    """Return the pages of a file that must hold one image.

    Raises:
        InputError: it holds several.
    """
    count = len(pages.values) if isinstance(pages, Stack) else len(pages)
    if count != 1:
        raise InputError(
            f"{shown(path)}: expected one image in a file of a dataset, found {count}; save each as a file of its own"
        )
    return pages
