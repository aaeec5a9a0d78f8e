"""Whatever a caller has, as pictures: paths, images of Pillow, arrays, tensors."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kanoclip.predict.pictures import Frame, read_frames
from kanoclip.types import InputError


def as_frames(given: Any) -> list[Frame]:
    """Return the pictures of one input.

    Args:
        given: a path; an image of Pillow; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4: alpha is dropped) of
            uint8, of uint16 over its whole range, or of floats in 0..1; a tensor of these shapes or (C, H, W).

    Raises:
        InputError: something else.
    """
    if isinstance(given, str | Path):
        return read_frames(Path(given))
    if isinstance(given, Image.Image):
        if given.mode.startswith(("I", "F")):
            return [Frame(_rgb(np.asarray(given)))]
        return [Frame(given.convert("RGB"))]
    if hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
        if given.ndim == 3 and given.shape[0] in (1, 3, 4) and given.shape[2] not in (1, 3, 4):
            given = given.transpose(1, 2, 0)
    if isinstance(given, np.ndarray):
        return [Frame(_rgb(given))]
    raise InputError(f"image: expected a path, an image, an array or a tensor, found {type(given).__name__}")


def _rgb(pixels: NDArray[Any]) -> Image.Image:
    """Turn an array into an RGB image of 8 bits."""
    shape = "x".join(map(str, pixels.shape))
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.size == 0:
        raise InputError(
            f"image: expected an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), found {shape or 'one value'}"
        )
    colours = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]
    return Image.fromarray(np.ascontiguousarray(_8_bits(colours)))


def _8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return np.rint(values / 257).astype(np.uint8)  # 65535 / 255
    if np.issubdtype(values.dtype, np.floating):
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise InputError(
                f"image: expected floats in 0..1, found {values.min():.4g} to {values.max():.4g}; scale them, or give "
                "8-bit or 16-bit integers"
            )
        return np.rint(values * 255).astype(np.uint8)
    raise InputError(f"image: expected uint8, uint16 or floats, found {values.dtype}; convert the array")
