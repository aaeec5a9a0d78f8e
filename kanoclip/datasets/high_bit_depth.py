"""Decode files with other values than 8-bit colours: DICOM, NIfTI, and 16-bit or float TIFF.

The libraries belong to the extra `formats` and are imported when a file needs them. Their decoders may raise any
exception on a damaged file, so each becomes an InputError of one line.
"""

import gzip
import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanoclip.datasets.safe_open import REDUCED, broken, check_pixels, max_pixels, shown
from kanoclip.types import InputError

PERCENTILES = (0.1, 99.9)  # become black and white if the file has no window
DEFLATED_DICOM = b"1.2.840.10008.1.2.1.99"  # the whole file is one compressed stream, of unknown length
NIFTI_BYTES = 16  # at most, per voxel of real numbers

Show = Callable[[NDArray[Any]], NDArray[np.floating]]


@dataclass(frozen=True)
class Stack:
    """The images of a file, in order.

    Attributes:
        values: (N, H, W) or (N, H, W, 3) physical values (rescaled, before any window).
        show: maps values to brightness in 0..1.
    """

    values: NDArray[Any]
    show: Show

    def rgb(self, number: int) -> NDArray[np.uint8]:
        """Return image `number`, counted from 0, as (H, W, 3)."""
        image = np.round(255 * self.show(self.values[number])).astype(np.uint8)
        return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def linear(low: float, high: float) -> Show:
    """Return the function that maps `low` to 0 and `high` to 1, linearly and clipped; low may exceed high."""
    span = high - low

    def show(values: NDArray[Any]) -> NDArray[np.floating]:
        if span == 0:
            return (values > low).astype(np.float64)
        return np.clip((values.astype(np.float64) - low) / span, 0, 1)

    return show


def by_percentiles(values: NDArray[Any]) -> Show:
    """Return `linear` between the two `PERCENTILES` of all values or, if these are equal, between the extremes."""
    low, high = np.percentile(values, PERCENTILES)
    if low == high:
        low, high = values.min(), values.max()
    return linear(float(low), float(high))


def read_dicom(path: Path | str, content: bytes) -> Stack:
    """Decode a DICOM file: its frames, grey or in colour, with the first window of its header.

    Raises:
        InputError: pydicom is missing, the file is damaged, or it has too many pixels.
    """
    pydicom = library("pydicom", path)
    if DEFLATED_DICOM in content[:4096]:
        raise InputError(f"{shown(path)}: a deflated DICOM file, whose size is unknown; convert it to explicit VR")
    pixels = library("pydicom.pixels", path)
    try:
        data = pydicom.dcmread(io.BytesIO(content), force=content[128:132] != b"DICM")
        count = int(data.get("NumberOfFrames") or 1)
        check_pixels(path, int(data.Columns), int(data.Rows), count)
        values = pixels.pixel_array(data)
        if data.PhotometricInterpretation == "PALETTE COLOR":
            values = pixels.apply_color_lut(values, data)
            values = values.astype(np.float64) / np.iinfo(values.dtype).max
            return Stack(values if count > 1 else values[None], linear(0, 1))
        values = values if count > 1 else values[None]
        if int(data.SamplesPerPixel) == 3:
            return _finite(path, Stack(values, linear(0, 2 ** int(data.BitsStored) - 1)))
        values = pixels.apply_modality_lut(values, data)
        show = dicom_window(data) or by_percentiles(values)
    except InputError:
        raise
    except Exception as error:
        raise broken(path, error) from error
    if data.PhotometricInterpretation == "MONOCHROME1":  # low values are bright
        return _finite(path, Stack(values, lambda image: 1 - show(image)))
    return _finite(path, Stack(values, show))


def dicom_window(data: Any) -> Show | None:
    """Return the first window of a header (PS3.3, C.11.2.1): values to 0..1; None if it has none."""
    if data.get("WindowWidth") is None or data.get("WindowCenter") is None:
        return None
    centre, width = (float(np.atleast_1d(data[key].value)[0]) for key in ("WindowCenter", "WindowWidth"))
    function = str(data.get("VOILUTFunction") or "LINEAR").upper()
    if function == "SIGMOID":
        return lambda values: 1 / (1 + np.exp(-4 * (values.astype(np.float64) - centre) / width))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return linear(centre - width / 2, centre + width / 2)


def read_nifti(path: Path | str, content: bytes, axis: int = 2) -> Stack:
    """Decode a NIfTI volume: its slices along an axis, scaled by the percentiles of the whole volume.

    Args:
        path: for messages.
        content: the bytes of the file, gzipped or not.
        axis: 0 left to right, 1 back to front, 2 feet to head (axial); slices are in ascending order, with the front
            or the head at the top.

    Raises:
        InputError: nibabel is missing, the file is not an undamaged 3-D volume, or it has too many voxels.
    """
    nibabel = library("nibabel", path)
    try:
        if content[:2] == b"\x1f\x8b":
            most = NIFTI_BYTES * max_pixels() + 1_000_000
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
                content = packed.read(most)
        kind = nibabel.Nifti2Image if content[:4] in (b"\x1c\2\0\0", b"\0\0\2\x1c") else nibabel.Nifti1Image
        image = kind.from_bytes(content)
        shape = tuple(int(length) for length in image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) == 2:
            shape = (*shape, 1)
        if len(shape) != 3:
            raise InputError(f"{shown(path)}: expected a volume of 3 dimensions, found {len(shape)}; split it first")
        check_pixels(path, shape[0], shape[1], shape[2])
        volume = kind(np.asarray(image.dataobj).reshape(shape), image.affine)
        values = np.asarray(nibabel.as_closest_canonical(volume).dataobj)
        if values.dtype.fields is not None or np.iscomplexobj(values):
            raise InputError(f"{shown(path)}: expected one real number per voxel, found {values.dtype}")
    except InputError:
        raise
    except Exception as error:
        raise broken(path, error) from error
    slices = np.moveaxis(values, axis, 0).swapaxes(1, 2)[:, ::-1]  # (N, H, W): rows from the front or the head down
    _check_finite(path, slices)
    return Stack(slices, by_percentiles(slices))


def read_tiff(path: Path | str, content: bytes) -> Stack:
    """Decode a TIFF with tifffile: all pages as large as the first, scaled by the percentiles of the whole file.

    Raises:
        InputError: tifffile is missing, the file is damaged, or it has too many pixels.
    """
    tifffile = library("tifffile", path)
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            pages = [page for number, page in enumerate(file.pages) if not (number and page.subfiletype & REDUCED)]
            first = pages[0]
            check_pixels(path, first.imagewidth, first.imagelength, len(pages))
            if {page.shape for page in pages} != {first.shape}:
                raise InputError(f"{shown(path)}: expected pages of one size and type, found several; split the file")
            if any(start + size > len(content) for page in pages for start, size in _segments(page)):
                raise ValueError("the file ends too early")
            values = np.stack([page.asarray() for page in pages])
            if first.axes.startswith("S"):  # channels stored one after the other
                values = np.moveaxis(values, 1, -1)
            white_is_zero = first.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    except InputError:
        raise
    except Exception as error:
        raise broken(path, error) from error
    if values.ndim == 4:
        if values.shape[-1] not in (1, 2, 3, 4):
            raise InputError(f"{shown(path)}: expected 1, 3 or 4 channels, found {values.shape[-1]}; choose three")
        values = values[..., :3] if values.shape[-1] > 2 else values[..., 0]
    _check_finite(path, values)
    show = by_percentiles(values)
    return Stack(values, (lambda image: 1 - show(image)) if white_is_zero else show)


def _segments(page: Any) -> list[tuple[int, int]]:
    return list(zip(page.dataoffsets, page.databytecounts, strict=True))


def _finite(path: Path | str, stack: Stack) -> Stack:
    _check_finite(path, stack.values)
    return stack


def _check_finite(path: Path | str, values: NDArray[Any]) -> None:
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        raise InputError(f"{shown(path)}: expected finite values, found NaN or infinity; fill them before use")


def library(name: str, path: Path | str) -> Any:
    """Import a library of the extra `formats`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0].replace("_", "-")
        raise InputError(
            f'{shown(path)}: this format needs the package {package}; run: pip install "kanoclip[formats]"'
        ) from error
