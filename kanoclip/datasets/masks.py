"""Read ground-truth masks, and resize them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from kanoclip.datasets.decoding import decode, single
from kanoclip.datasets.high_bit_depth import Stack
from kanoclip.datasets.images import image_size
from kanoclip.datasets.safe_open import is_deep_colour_png, read_file, shown
from kanoclip.types import InputError


def load_mask(path: Path | str, size: tuple[int, int], content: bytes | None = None) -> NDArray[np.bool_]:
    """Read a mask: a pixel is anomalous where any channel is above 0.

    Args:
        path: the mask file.
        size: (W, H) of its image in pixels, as `PIL.Image.size`.
        content: the bytes of the file, if they have been read already.

    Returns:
        (H, W) bool.

    Raises:
        InputError: the file is missing, truncated, not an image, of another size than its image, or it is not clear
            which of its pixels are marked; see `marked`.
    """
    content = read_file(path) if content is None else content
    pages = single(path, decode(path, content))
    if is_deep_colour_png(content):
        raise InputError(f"{shown(path)}: a mask with 16 bits in several channels; save it with 8 bits or as grey")
    mask = _positive(path, pages.values[0]) if isinstance(pages, Stack) else marked(path, pages[0])
    if mask.shape != size[::-1]:
        raise InputError(
            f"{shown(path)}: the mask is {mask.shape[1]}x{mask.shape[0]} pixels, its image {size[0]}x{size[1]}; "
            "they must agree"
        )
    return mask


def marked(path: Path | str, image: Image.Image) -> NDArray[np.bool_]:
    """Return the pixels of a mask whose colour has any channel above 0.

    A palette is looked up. Alpha is used if it varies and the colours do not, or if both mark the same pixels; alpha
    above 0 everywhere is ignored.

    Args:
        path: for messages.
        image: the mask in its own mode.

    Returns:
        (H, W) bool.

    Raises:
        InputError: alpha and colours mark different pixels, several palette entries are black, or a value is NaN.
    """
    if image.mode == "P":
        _check_palette(path, image)
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):  # 0 is not black in these
        image = image.convert("RGB")
    values = np.asarray(image)
    if image.mode not in ("LA", "RGBA", "PA", "La", "RGBa"):
        return _positive(path, values)
    colours, alpha = _positive(path, values[..., :-1]), values[..., -1] > 0
    if alpha.all() or np.array_equal(colours, alpha):
        return colours
    if colours.all() or (alpha.any() and not colours.any()):
        return alpha
    raise InputError(
        f"{shown(path)}: colours mark {colours.sum()} pixels of the mask and alpha marks {alpha.sum()}, not the same; "
        "save it without alpha"
    )


def _positive(path: Path | str, values: NDArray) -> NDArray[np.bool_]:
    """Return where any channel is above 0: (H, W) or (H, W, C) to (H, W)."""
    if np.issubdtype(values.dtype, np.floating) and np.isnan(values).any():
        raise InputError(f"{shown(path)}: expected numbers in the mask, found NaN; write 0 where nothing is marked")
    above: NDArray[np.bool_] = np.asarray(values > 0)
    return np.asarray(above.any(axis=2)) if above.ndim == 3 else above


def _check_palette(path: Path | str, image: Image.Image) -> None:
    """Refuse a palette in which several used entries are black: their pixels would be indistinguishable."""
    colours = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
    used = np.unique(np.asarray(image))
    black = [int(entry) for entry in used if entry < len(colours) and not colours[entry].any()]
    if len(black) > 1:
        raise InputError(
            f"{shown(path)}: the entries {', '.join(map(str, black))} of the palette are all black; "
            "save the mask as grey, 0 where nothing is marked"
        )


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
            yield resize_mask(load_mask(mask_path, image_size(image_path)), (size, size), resize)


def resize_mask(mask: NDArray[np.bool_], size: tuple[int, int], resize: Resize = "nearest") -> NDArray[np.bool_]:
    """Resize a mask.

    Args:
        mask: (H, W) True where anomalous.
        size: (height, width) wanted.
        resize: "nearest", which needs no threshold; or "bilinear" on 8 bits, antialiased where it shrinks and True
            above 1/2, as in Pillow and torchvision, which AnomalyCLIP's and APRIL-GAN's code uses.

    Returns:
        (height, width) bool.

    >>> resize_mask(np.array([[True, False]]), (1, 4)).tolist()
    [[True, True, False, False]]
    """
    height, width = size
    if resize == "nearest":
        return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST), dtype=bool)
    gray = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(gray) > 127.5
