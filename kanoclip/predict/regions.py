"""Connected regions of a map at or above a threshold."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


@dataclass(frozen=True)
class Region:
    """A connected region of an image, in pixels from the upper left corner.

    Attributes:
        x, y: upper left corner of its bounding box.
        width, height: of the bounding box.
        area: pixels in the region.
        peak: (x, y) of its most anomalous pixel.
        value: map value there, in 0..1.
        mask: (height, width) bool, the pixels of the bounding box that belong to it.
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    peak: tuple[int, int]
    value: float
    mask: NDArray[np.bool_] = field(repr=False, compare=False)


def regions_of(values: NDArray[np.floating], threshold: float | None) -> list[Region]:
    """Return the 8-connected regions at or above a threshold, the highest peak first.

    Args:
        values: (H, W) the map of an image.
        threshold: lowest value inside a region; None returns no regions.

    >>> regions_of(np.array([[0.1, 0.9, 0.1], [0.1, 0.8, 0.1]]), 0.5)
    [Region(x=1, y=0, width=1, height=2, area=2, peak=(1, 0), value=0.9)]
    """
    if threshold is None:
        return []
    labels, count = ndimage.label(values >= threshold, structure=np.ones((3, 3), int))
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == number
        part = np.where(inside, values[rows, columns], -np.inf)
        row, column = np.unravel_index(int(part.argmax()), part.shape)
        found.append(
            Region(
                x=columns.start,
                y=rows.start,
                width=columns.stop - columns.start,
                height=rows.stop - rows.start,
                area=int(inside.sum()),
                peak=(int(columns.start + column), int(rows.start + row)),
                value=float(part[row, column]),
                mask=inside,
            )
        )
    return sorted(found, key=lambda region: -region.value)
