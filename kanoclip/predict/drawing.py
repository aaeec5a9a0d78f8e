"""Write the pictures of a prediction: heat maps over the image, masks, raw maps, and thumbnails for the gallery."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kanoclip.files import whole
from kanoclip.predict.outputs import HEAT, MAPS, MASKS, picture, piece, thumbnail
from kanoclip.predict.result import Result
from kanoclip.report.heat import COLOURS, colour_range

STRENGTH = 0.7  # opacity of the most anomalous pixels
THUMBNAIL = 256  # longer side in pixels
WEBP = {"quality": 70, "method": 0}  # method 0 takes a third of the time for files 8 % larger
PNG = {"compress_level": 1}  # a third of the time of the default; files are 15 % larger
PNG_MAPS, HDF5 = "png", "hdf5"

Scale = tuple[float, float]
"""The map values drawn darkest and brightest, the same for all images of a prediction."""


@dataclass(frozen=True)
class Pictures:
    """The kinds of pictures to write, below one folder.

    Attributes:
        folder: folder of the prediction.
        shown: whether to write heat maps, masks and thumbnails.
        maps: format of raw maps: "png", 16 bits at the size of the image, where the map is value / 65535; "hdf5",
            float32 as the model returns them (`kanoclip.predict.maps_file` packs them at the end); "" for none.
    """

    folder: Path
    shown: bool = True
    maps: str = ""

    def write(self, result: Result, name: str, scale: Scale) -> None:
        """Write the pictures of an image."""
        if self.maps == HDF5:
            with whole(self.folder / piece(name)) as temporary, temporary.open("wb") as file:
                np.save(file, result.square)
        elif self.maps:
            raw = np.rint(np.clip(result.map, 0, 1) * 65535).astype(np.uint16)
            _save(Image.fromarray(raw), self.folder / picture(MAPS, name), **PNG)
        if not self.shown:
            return
        strength = opacity(result.map, scale)
        _save(overlay(result.image, strength), self.folder / picture(HEAT, name), **PNG)
        if result.mask is not None:
            _save(Image.fromarray(result.mask), self.folder / picture(MASKS, name))
        small = result.image.copy()
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        _save(small, self.folder / thumbnail(name, "image"), **WEBP)
        heat = Image.fromarray(strength).resize(small.size, Image.Resampling.BILINEAR)
        _save(_heat(np.asarray(heat)), self.folder / thumbnail(name, "heat"), **WEBP)


def scale_of(results: list[Result]) -> Scale:
    """Choose the colour scale of a prediction from its first images, with the threshold at least at the middle."""
    low, high = colour_range(np.concatenate([result.square.ravel() for result in results]).astype(float))
    threshold = results[0].threshold.pixel
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
        low = max(low, 2 * threshold - high) if high > threshold else low
    return float(low), float(high if high > low else low + 1)


def opacity(values: NDArray[np.floating], scale: Scale) -> NDArray[np.float32]:
    """Return the map on its scale, clipped to 0..1."""
    low, high = scale
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def overlay(image: Image.Image, strength: NDArray[np.float32]) -> Image.Image:
    """Draw a map over an image of its size; the more anomalous a pixel, the more opaque."""
    alpha = Image.fromarray(np.rint(255 * STRENGTH * strength).astype(np.uint8))
    return Image.composite(_heat(strength), image, alpha)


def _heat(strength: NDArray[np.float32]) -> Image.Image:
    """Return a map as an RGB heat map."""
    return Image.fromarray(_TABLE[np.rint(255 * strength).astype(np.uint8)])


_TABLE = (COLOURS(np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def _save(image: Image.Image, path: Path, **options: Any) -> None:
    with whole(path) as temporary:
        image.save(temporary, **options)
