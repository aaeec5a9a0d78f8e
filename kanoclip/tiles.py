"""Score large images tile by tile: place the tiles, blend their maps, and take the highest score.

A method sees S x S pixels, so a small defect on a large image vanishes when the image is squashed. Cut into tiles that
overlap, every part is seen at full resolution. Maps are averaged with weights that fall linearly to the edge of a tile
across the overlap, so no seam shows. The score of the image is the maximum over its tiles: one bad tile makes it bad.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kanoclip.resampling import axis_matrix
from kanoclip.types import InputError

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels, as of `PIL.Image.crop`."""

ScoreTiles = Callable[[list[Image.Image]], tuple[Sequence[NDArray[np.floating]], Sequence[float]]]


def tile_boxes(size: tuple[int, int], tile: int, overlap: int) -> list[Box]:
    """Return the tiles of an image, row by row, spread evenly; neighbours share `overlap` pixels or more.

    Args:
        size: (W, H) of the image, as `PIL.Image.size`.
        tile: pixels per side; along a side of the image that is shorter, a tile is as short as that.
        overlap: pixels that neighbours share at least; below `tile`.

    Raises:
        InputError: the overlap is negative or leaves no step.

    >>> tile_boxes((10, 4), tile=6, overlap=2)
    [(0, 0, 6, 4), (4, 0, 10, 4)]
    """
    if tile < 1 or not 0 <= overlap < tile:
        raise InputError(f"tiles: expected an overlap from 0 to below the tile, found tile {tile}, overlap {overlap}")
    columns, rows = (_spans(length, tile, overlap) for length in size)
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def blend(maps: Sequence[NDArray[np.floating]], boxes: Sequence[Box], overlap: int) -> NDArray[np.float64]:
    """Join the maps of tiles.

    Args:
        maps: (h, w) for each tile, of any resolution; resized bilinearly to the tile.
        boxes: from `tile_boxes`.
        overlap: pixels across which weights fall to the edge of a tile.

    Returns:
        (H, W) of the whole image, within the range of the maps.
    """
    width, height = (max(box[side] for box in boxes) for side in (2, 3))
    total, weights = np.zeros((height, width)), np.zeros((height, width))
    for values, (left, top, right, bottom) in zip(maps, boxes, strict=True):
        at = np.s_[top:bottom, left:right]
        rows, columns = axis_matrix(len(values), bottom - top, 0.0), axis_matrix(values.shape[1], right - left, 0.0)
        weight = np.outer(_window(bottom - top, overlap), _window(right - left, overlap))
        total[at] += weight * (rows @ values @ columns.T)
        weights[at] += weight
    return total / weights


def score_by_tiles(
    image: Image.Image, tile: int, overlap: int, score: ScoreTiles, batch_size: int = 8
) -> tuple[NDArray[np.float64], float]:
    """Score an image tile by tile.

    Args:
        image: RGB of any size. An image no larger than a tile is a single tile.
        tile: pixels per side.
        overlap: least overlap of neighbours in pixels.
        score: returns a map (h, w) and a score for each of some tiles (W, H).
        batch_size: tiles per call of `score`.

    Returns:
        The map (H, W) in pixels of the image, and its score: the maximum over tiles.

    Raises:
        InputError: as `tile_boxes`.
    """
    boxes = tile_boxes(image.size, tile, overlap)
    maps: list[NDArray[np.floating]] = []
    scores: list[float] = []
    for start in range(0, len(boxes), batch_size):
        found, values = score([image.crop(box) for box in boxes[start : start + batch_size]])
        maps += list(found)
        scores += [float(value) for value in values]
    return blend(maps, boxes, overlap), max(scores)


def _spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Return (start, end) of the tiles along one side."""
    if length <= tile:
        return [(0, length)]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [(start, start + tile) for start in ((length - tile) * number // (count - 1) for number in range(count))]


def _window(length: int, overlap: int) -> NDArray[np.float64]:
    """Return weights above 0 along a side: 1 in the middle, falling linearly over `overlap` pixels at both ends."""
    from_edge = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1
    return np.minimum(1.0, from_edge / (overlap + 1))
