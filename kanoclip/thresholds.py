"""The threshold that was best on an auxiliary dataset: the highest F1 over images, and over pixels."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kanoclip.datasets.masks import masks_at
from kanoclip.resampling import final_map_of

BINS = 2**16  # of pixel values in 0..1; a threshold is exact to 1/65,536


class Tally:
    """Counts normal and anomalous images and pixels by score, batch by batch, in constant memory but for the images.

    Args:
        size: pixels per side at which maps and masks are compared.
    """

    def __init__(self, size: int):
        self._size = size
        self._scores: list[NDArray[np.float32]] = []
        self._labels: list[NDArray[np.bool_]] = []
        self._pixels = np.zeros((2, BINS), np.int64)  # normal, anomalous
        self._masked = True  # whether every anomalous image has a mask

    def add(self, rows: pd.DataFrame, maps: NDArray[np.float32], scores: NDArray[np.float32], sigma: float) -> None:
        """Count some images.

        Args:
            rows: of an index, N of them.
            maps: (N, h, w) in 0..1, before smoothing.
            scores: (N,) any values.
            sigma: Gaussian smoothing of the final maps, in pixels at 518.
        """
        anomalous = rows["label"].to_numpy() == 1
        self._scores.append(scores)
        self._labels.append(anomalous)
        self._masked &= not (rows["mask_path"][anomalous] == "").any()
        if not self._masked:
            return
        for grid, mask in zip(maps, masks_at(rows, self._size), strict=True):
            final = final_map_of(grid, self._size, sigma)
            levels = np.clip((final * BINS).astype(np.int64), 0, BINS - 1)
            for truth in (False, True):
                self._pixels[int(truth)] += np.bincount(levels[mask == truth], minlength=BINS)

    def thresholds(self) -> dict[str, Any]:
        """Return the best thresholds.

        Returns:
            "image" and "image_f1": the threshold (an image whose score is at or above it is anomalous) and the F1 it
            reached; "image_f1_of_all": the F1 of calling every image anomalous; "pixel", "pixel_f1" and
            "pixel_f1_of_all" in the same way, None where an anomalous image has no mask; "images", counted.
        """
        scores, labels = np.concatenate(self._scores), np.concatenate(self._labels)
        values, place = np.unique(scores, return_inverse=True)
        counts = np.stack([np.bincount(place[labels == truth], minlength=values.size) for truth in (False, True)])
        found: dict[str, Any] = {"images": len(scores)}
        at, found["image_f1"], found["image_f1_of_all"] = best_f1(counts)
        found["image"] = float(values[at])
        found |= {"pixel": None, "pixel_f1": None, "pixel_f1_of_all": None}
        if self._masked:
            at, found["pixel_f1"], found["pixel_f1_of_all"] = best_f1(self._pixels)
            found["pixel"] = at / BINS
        return found


def best_f1(counts: NDArray[np.int64]) -> tuple[int, float, float]:
    """Return the highest level that reaches the best F1, that F1, and the F1 of the lowest level.

    Args:
        counts: (2, K) the negatives and the positives at each level, lowest level first; positives occur.

    >>> best_f1(np.array([[2, 1, 0], [0, 1, 1]]))  # level 1 finds 2 of 2 with 1 false alarm, level 0 with 3
    (1, 0.8, 0.5714285714285714)
    """
    false, true = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
    f1 = 2 * true / (true + false + true[0])
    at = int(f1.size - 1 - np.argmax(f1[::-1]))
    return at, float(f1[at]), float(f1[0])
