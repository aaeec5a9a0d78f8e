"""Encode regions in COCO's compressed run-length encoding, which pycocotools and most annotation tools read.

Pixels are counted column by column, in alternating runs outside and inside the region, starting outside. From the
fourth on, a count is stored as its difference from the count two before, in groups of five bits, lowest first; a sixth
bit says whether another group follows, and adding 48 makes each group a printable character. See `rleToString` in
https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c.
"""

import numpy as np
from numpy.typing import NDArray


def runs(mask: NDArray[np.bool_], corner: tuple[int, int], size: tuple[int, int]) -> list[int]:
    """Return the run lengths of an image, column by column, starting outside the region.

    Args:
        mask: (h, w) of a box; the rest of the image is outside.
        corner: (x, y), the upper left corner of the box.
        size: (width, height) of the image.

    >>> runs(np.array([[True, False], [True, True]]), (1, 0), (3, 2))
    [2, 2, 1, 1]
    """
    (x, y), (width, height) = corner, size
    columns = np.zeros((mask.shape[1], height), bool)
    columns[:, y : y + mask.shape[0]] = mask.T
    inside = np.concatenate([[False], columns.ravel(), [False]])
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + x * height
    end = width * height
    found = np.diff(edges, prepend=0, append=end).tolist()
    return found[:-1] if found[-1] == 0 else found


def compressed(counts: list[int]) -> str:
    """Return run lengths as compressed text.

    >>> compressed([2, 2, 1, 1])
    '221O'
    """
    text = []
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != (-1 if group & 16 else 0)
            text.append(chr(group + (32 if more else 0) + 48))
    return "".join(text)
