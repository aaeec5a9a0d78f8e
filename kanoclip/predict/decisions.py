"""Thresholds: calibrated on normal images for a target false-alarm rate, or guessed from the auxiliary dataset."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from kanoclip.types import InputError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Threshold:
    """The values from which on images and pixels are called anomalous.

    Attributes:
        image: for image scores; None if there is no threshold.
        pixel: for map values; None if there is no threshold.
        words: its origin and reliability, in a sentence.
    """

    image: float | None
    pixel: float | None
    words: str


@dataclass(frozen=True)
class Calibration:
    """A threshold calibrated on normal images.

    Attributes:
        image: lowest score that is called anomalous.
        pixel: lowest map value that is called anomalous, at which normal images have any such pixel at the same rate.
        false_alarms: the target rate, in 0..1.
        normals: number of normal images.
        expected: the expected false-alarm rate over all draws of this number of normal images; at most the target
            rate.
        low, high: 95 % interval of the rate with these normal images.
    """

    image: float
    pixel: float
    false_alarms: float
    normals: int
    expected: float
    low: float
    high: float

    @property
    def threshold(self) -> Threshold:
        """The threshold, with its reliability in words."""
        return Threshold(self.image, self.pixel, self.words)

    @property
    def words(self) -> str:
        """One sentence that describes it."""
        return (
            f"threshold from {self.normals} normal images for {_percent(self.false_alarms)} false alarms: with so few "
            f"images the true rate lies between {_percent(self.low)} and {_percent(self.high)} (95 % interval)"
        )


def calibrated(scores: NDArray[np.floating], peaks: NDArray[np.floating], false_alarms: float) -> Calibration:
    """Choose thresholds from the scores of normal images.

    The threshold lies just above the k-th smallest score, k = ceil((n + 1) (1 - a)) for n images and the rate a. If new
    normal images come from the same distribution, the false-alarm rate follows Beta(n + 1 - k, k), whatever the
    distribution of the scores (exactly so without ties, lower with ties); its mean is at most a (Vovk et al. 2005,
    "Algorithmic Learning in a Random World"; Wilks 1941, "Determination of sample sizes for setting tolerance limits").

    Args:
        scores: (n,) image scores of normal images.
        peaks: (n,) the largest value of each image's map.
        false_alarms: a, the target share of normal images that are called anomalous, above 0 and below 1.

    Raises:
        InputError: the rate is not between 0 and 1, there are too few images for it, or all scores are equal.

    >>> found = calibrated(np.arange(99.0), np.arange(99.0), 0.05)
    >>> found.image > 94, found.image < 94.001, round(found.expected, 3), round(found.low, 3), round(found.high, 3)
    (True, True, 0.05, 0.017, 0.1)
    """
    if not 0 < false_alarms < 1:
        raise InputError(f"false alarms: expected a rate above 0 and below 1, such as 0.05, found {false_alarms:g}")
    count = len(scores)
    # with a small tolerance: (99 + 1) * (1 - 0.05) is 95.00000000000001 in floating point
    rank = math.ceil((count + 1) * (1 - false_alarms) - 1e-9)
    if rank > count:
        needed = math.ceil(1 / false_alarms - 1 - 1e-9)
        support = f"{count} support {1 / (count + 1):.2g} and above" if count else "give some"
        raise InputError(
            f"normal images: a false-alarm rate of {false_alarms:g} needs at least {needed}, found {count}; {support}"
        )
    if count > 1 and scores.min() == scores.max():
        raise InputError(
            f"normal images: all {count} have the same score {scores[0]:.4g}, so they say nothing about others; "
            "give different images"
        )
    low, high = beta.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], count + 1 - rank, rank)
    return Calibration(
        image=_just_above(scores, rank),
        pixel=_just_above(peaks, rank),
        false_alarms=false_alarms,
        normals=count,
        expected=(count + 1 - rank) / (count + 1),
        low=float(low),
        high=float(high),
    )


def guessed(record: Mapping[str, Any] | None) -> Threshold:
    """Return the threshold stored in a checkpoint, which is only a guess for other datasets.

    Args:
        record: the entry "threshold" of its header; None if it has none.
    """
    if record is None:
        return Threshold(None, None, "no threshold, so no decisions: give normal images (--normals)")
    if "reason" in record:
        return Threshold(None, None, f"no threshold, so no decisions ({record['reason']}): give normal images")
    found, alarms = _percent(record["image_found"]), _percent(record["image_false_alarms"])
    where = "classes left out of training" if record["folds"] else "images"
    words = (
        f"threshold guessed from {record['auxiliary']}: on its {where} it finds {found} of the anomalous images with "
        f"{alarms} false alarms, unknown on your images; give normal images (--normals) for a rate you choose"
    )
    return Threshold(record["image"], record["pixel"], words)


def _just_above(values: NDArray[np.floating], rank: int) -> float:
    """Return the next float32 above the value of a rank, counted from 1: equal values are then not anomalous."""
    return float(np.nextafter(np.float32(np.sort(values)[rank - 1]), np.float32(np.inf)))


def _percent(rate: float) -> str:
    return f"{100 * rate:.2g} %"
