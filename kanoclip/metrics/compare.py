"""Test whether two methods differ on the same images: DeLong's test on image AUROC.

DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating characteristic
curves", Biometrics 1988; computed from mid-ranks as in Sun and Xu, IEEE Signal Processing Letters 2014.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from kanoclip.metrics.scores_file import scored_index
from kanoclip.types import InputError

LEVEL = 0.95


@dataclass(frozen=True)
class Comparison:
    """The AUROC of a first method minus that of a second.

    Attributes:
        difference: in -1..1.
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
        p: two-sided p-value of no difference; NaN if the variance is 0, as when one method is perfect and the other
            constant.
    """

    difference: float
    low: float
    high: float
    p: float


def delong(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> tuple[float, float]:
    """Return the difference of two AUROCs on the same images, and its variance.

    Args:
        labels: (N,) 1 anomalous, 0 normal, each at least twice.
        scores: (2, N) of the two methods.

    >>> difference, variance = delong(np.array([1, 1, 0, 0]), np.array([[0.9, 0.8, 0.2, 0.1], [0.9, 0.1, 0.2, 0.1]]))
    >>> round(difference, 3)  # 1 - (2 + 0.5) / 4
    0.375
    """
    anomalous = labels == 1
    positives, negatives = scores[:, anomalous], scores[:, ~anomalous]
    m, n = positives.shape[1], negatives.shape[1]
    ranks = _mid_ranks(np.hstack([positives, negatives]))
    # for each positive the share of negatives below it, for each negative the share of positives above; ties count half
    of_positives = (ranks[:, :m] - _mid_ranks(positives)) / n
    of_negatives = 1 - (ranks[:, m:] - _mid_ranks(negatives)) / m
    difference = float(np.subtract(*of_positives.mean(axis=1)))
    variance = np.var(np.subtract(*of_positives), ddof=1) / m + np.var(np.subtract(*of_negatives), ddof=1) / n
    return difference, float(variance)


def _mid_ranks(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rank each row of (2, N) scores from 1; equal scores get the mean of their ranks."""
    return pd.DataFrame(scores).rank(axis=1, method="average").to_numpy()


def compare(first: Path, second: Path, index: Path) -> Comparison:
    """Compare the class-mean image AUROC of two methods; classes are independent, so their variances add.

    Args:
        first: scores.h5 of a method.
        second: scores.h5 of another method, on the same images.
        index: index.csv of the dataset.

    Raises:
        InputError: the files do not list the same images, a score is not finite, or a class has fewer than two normal
            or two anomalous images.
    """
    scores = []
    for path in (first, second):
        with scored_index(path, index) as (rows, file):
            scores.append(file["image_score"][:])
            if not np.isfinite(scores[-1]).all():
                raise InputError(f"{path}: an image score is not finite; score again")
    both, labels = np.stack(scores), rows["label"].to_numpy()
    parts = []
    for name, members in rows.groupby("class_name"):
        of_class = labels[members.index]
        if (of_class < 0).any():
            raise InputError(f"{index}: class '{name}' has unlabelled images; a comparison needs labels")
        normal, anomalous = np.bincount(of_class, minlength=2)
        if min(normal, anomalous) < 2:
            raise InputError(
                f"{index}: class '{name}' has {normal} normal and {anomalous} anomalous images; a comparison needs two "
                "of each"
            )
        parts.append(delong(of_class, both[:, members.index]))
    differences, variances = np.array(parts).T
    return _test(float(differences.mean()), math.sqrt(variances.sum()) / len(parts))


def _test(difference: float, error: float) -> Comparison:
    """Return the z-test of a difference with a standard error."""
    if error == 0:
        return Comparison(difference, difference, difference, 1.0 if difference == 0 else math.nan)
    margin = float(ndtri((1 + LEVEL) / 2)) * error
    p = float(2 * ndtr(-abs(difference) / error))
    return Comparison(difference, max(-1.0, difference - margin), min(1.0, difference + margin), p)
