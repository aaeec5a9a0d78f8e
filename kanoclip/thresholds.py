"""The thresholds that were best on an auxiliary dataset: over images by balanced accuracy, over pixels by F1.

The best threshold of images has the highest J = TPR - FPR (Youden 1950, "Index for rating diagnostic tests"), which is
2 * balanced accuracy - 1. J does not depend on how many of the images are anomalous. F1 does: about half of the images
of an auxiliary dataset are anomalous, so calling every image anomalous has an F1 of 0.67 already, and where the AUROC
is moderate no other threshold does better. J of calling every image anomalous is 0.

Few of the pixels are anomalous, so J can accept more false alarms than there are anomalous pixels, and masks then cover
large normal areas. F1 counts them against what is found.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kanoclip.datasets.masks import masks_at
from kanoclip.resampling import final_map_of
from kanoclip.types import InputError

# last bits of a pixel's float32 that are not counted: as many as `kanoclip.metrics.counts` drops at most, so that it
# does not round a pixel at a threshold below it. A threshold is exact to 1 part in 4,096.
DROPPED = 11
LEVELS = (np.float32(1).view(np.uint32) >> DROPPED) + 1  # of values in 0..1


class NoThresholdError(InputError):
    """The classes or labels of the auxiliary dataset do not allow a threshold to be chosen."""


class Tally:
    """Counts normal and anomalous images and pixels by score, batch by batch, in constant memory except for the images.

    Args:
        size: pixels per side at which maps and masks are compared.
    """

    def __init__(self, size: int):
        self._size = size
        self._scores: list[NDArray[np.float32]] = []
        self._labels: list[NDArray[np.bool_]] = []
        self._pixels = np.zeros((2, LEVELS), np.int64)  # normal, anomalous
        self._masked = True  # whether every anomalous image has a mask

    def add(self, rows: pd.DataFrame, maps: NDArray[np.float32], scores: NDArray[np.float32], sigma: float) -> None:
        """Count some images.

        Args:
            rows: rows of an index, N of them.
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
            levels = _level_of(final_map_of(grid, self._size, sigma))
            for truth in (False, True):
                self._pixels[int(truth)] += np.bincount(levels[mask == truth], minlength=LEVELS)

    def thresholds(self) -> dict[str, Any]:
        """Return the best thresholds.

        Returns:
            "image": the threshold; an image whose score is at or above it is called anomalous. "image_found" and
            "image_false_alarms": the shares in 0..1 of the anomalous and of the normal images that are. "pixel",
            "pixel_found" and "pixel_false_alarms" in the same way, but with the best F1; None where an anomalous image
            has no mask, or no pixel is anomalous at this size.
            "images": how many were counted.

        Raises:
            NoThresholdError: all images are normal, or all are anomalous.
        """
        scores, labels = np.concatenate(self._scores), np.concatenate(self._labels)
        if labels.all() or not labels.any():
            only = "anomalous" if labels.all() else "normal"
            raise NoThresholdError(
                f"expected normal and anomalous images in the classes left out, found only {only} ones"
            )
        values, place = np.unique(scores, return_inverse=True)
        counts = np.stack([np.bincount(place[labels == truth], minlength=values.size) for truth in (False, True)])
        found: dict[str, Any] = {"images": len(scores)}
        at, found["image_found"], found["image_false_alarms"] = most_balanced(counts)
        found["image"] = float(values[at])
        found |= {"pixel": None, "pixel_found": None, "pixel_false_alarms": None}
        if self._masked and self._pixels.any(axis=1).all():
            at, found["pixel_found"], found["pixel_false_alarms"] = best_f1(self._pixels)
            found["pixel"] = float((np.uint32(at) << DROPPED).view(np.float32))
        return found


def _level_of(values: NDArray[np.floating]) -> NDArray[np.uint32]:
    """Return the first bits of values in 0..1: of positive floats they rise with the value, and are fine near 0 too."""
    return np.clip(values, 0, 1).astype(np.float32).view(np.uint32) >> DROPPED


def most_balanced(counts: NDArray[np.int64]) -> tuple[int, float, float]:
    """Return the highest level with the best TPR - FPR, and its TPR and FPR.

    Args:
        counts: (2, K) the negatives and the positives at each level, lowest level first; both occur.

    >>> most_balanced(np.array([[2, 1, 1], [0, 1, 1]]))  # at level 1: all 2 positives, 2 of 4 negatives
    (1, 1.0, 0.5)
    """
    above = _at_or_above(counts)
    false, true = above / above[:, :1]
    return _highest_best(true - false, above)


def best_f1(counts: NDArray[np.int64]) -> tuple[int, float, float]:
    """Return the highest level with the best F1, and its TPR and FPR.

    Args:
        counts: (2, K) the negatives and the positives at each level, lowest level first; both occur.

    >>> best_f1(np.array([[90, 9, 1], [0, 5, 5]]))  # at level 1: F1 = 20 / 30, at level 2: 10 / 16
    (1, 1.0, 0.1)
    """
    above = _at_or_above(counts)
    false, true = above
    return _highest_best(2 * true / (true + false + true[0]), above)


def _at_or_above(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (2, K) how many negatives and positives are at each level or above."""
    return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]


def _highest_best(merit: NDArray[np.floating], above: NDArray[np.int64]) -> tuple[int, float, float]:
    """Return the highest level with the best merit, and its TPR and FPR."""
    at = int(merit.size - 1 - np.argmax(merit[::-1]))
    false, true = above[:, at] / above[:, 0]
    return at, float(true), float(false)
