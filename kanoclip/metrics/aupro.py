"""AUPRO: area under the per-region overlap curve up to a false positive rate of 0.3, exact or with 200 thresholds.

The curve plots the fraction of a ground-truth region at or above a threshold, averaged over all regions, against the
fraction of all normal pixels at or above it (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021). If
each anomalous pixel has the weight 1 / (size of its region), the mean overlap is a weighted count of pixels.
"""

import numpy as np
from numpy.typing import NDArray

from kanoclip.metrics.ranking import Ranking, UndefinedMetricError
from kanoclip.metrics.registry import metric

FPR_LIMIT = 0.3
STEPS = 200
EIGHT_CONNECTED = np.ones((3, 3), dtype=int)


def region_weights(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the weight of each anomalous pixel: 1 / (size of its 8-connected region).

    Args:
        mask: (H, W) True where anomalous.

    Returns:
        (P,) in the order of `map[mask]`; the weights sum to the number of regions.

    >>> region_weights(np.array([[True, True, False, True]])).tolist()
    [0.5, 0.5, 1.0]
    """
    from scipy import ndimage  # takes half a second, which commands that only read tables should not spend

    regions, _ = ndimage.label(mask, structure=EIGHT_CONNECTED)
    region_of_pixel = regions[mask]
    return 1.0 / np.bincount(region_of_pixel)[region_of_pixel]


def pro_curve(ranking: Ranking) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the false positive rate and the mean overlap of the regions at each threshold.

    Args:
        ranking: pixels ranked with the weights of `region_weights`.

    Returns:
        Two non-decreasing (K + 1,) arrays from 0, above all scores, to 1.

    >>> from kanoclip.metrics.ranking import rank
    >>> fpr, overlap = pro_curve(rank(np.array([0.9, 0.4]), np.array([0.5, 0.1]), weights=np.array([0.25, 0.75])))
    >>> fpr.tolist(), overlap.tolist()
    ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.25, 0.25, 1.0, 1.0])
    """
    return ranking.false_positive_rates, ranking.weighted_positive_rates


def up_to(
    limit: float, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cut a rising curve at x = limit, interpolating linearly, since ties form straight lines.

    Args:
        limit: above x[0], at most x[-1].
        x: (K,) non-decreasing.
        y: (K,) non-decreasing.

    >>> up_to(0.5, np.array([0.0, 0.25, 1.0]), np.array([0.0, 0.5, 1.0]))[1].round(3).tolist()
    [0.0, 0.5, 0.667]
    """
    end = int(np.searchsorted(x, limit, side="right"))
    if x[end - 1] == limit:
        return x[:end], y[:end]
    slope = (y[end] - y[end - 1]) / (x[end] - x[end - 1])
    return np.append(x[:end], limit), np.append(y[:end], y[end - 1] + slope * (limit - x[end - 1]))


@metric("aupro", "AUPRO", levels=("pixel",))
def aupro(ranking: Ranking) -> float:
    """Return the area under the per-region overlap curve up to a false positive rate of 0.3, divided by 0.3.

    Ties are handled exactly.

    Args:
        ranking: pixels ranked with the weights of `region_weights`.

    >>> from kanoclip.metrics.ranking import rank
    >>> round(aupro(rank(np.array([0.9, 0.4]), np.array([0.5, 0.1]))), 3)  # half of the overlap up to a rate of 0.5
    0.5
    """
    return _area(*up_to(FPR_LIMIT, *pro_curve(ranking))) / FPR_LIMIT


@metric("aupro_200", "AUPRO (200 thresholds)", levels=("pixel",))
def aupro_200(ranking: Ranking) -> float:
    """Return AUPRO as released code computes it, for comparison with printed tables.

    That code is `cal_pro_score` of cflow-ad and AnomalyCLIP. 200 thresholds divide the range of the scores evenly;
    pixels above a threshold are predicted anomalous. The points with a false positive rate below 0.3 are kept, their
    rates rescaled to 0..1, and the area computed by the trapezoidal rule. So the value depends on the values of the
    scores, not only on their order: for a saturated map few thresholds fall below 0.3.

    Args:
        ranking: pixels ranked with the weights of `region_weights`.

    Raises:
        UndefinedMetricError: fewer than two distinct rates fall below 0.3; released code divides by zero there.

    >>> from kanoclip.metrics.ranking import rank
    >>> round(aupro_200(rank(np.array([0.95, 0.9]), np.linspace(0, 0.8, 9))), 3)
    1.0
    """
    lowest, highest = float(ranking.thresholds[-1]), float(ranking.thresholds[0])
    if lowest == highest:
        raise UndefinedMetricError("all scores equal")
    thresholds = lowest + (highest - lowest) / STEPS * np.arange(STEPS)  # np.arange with a step has 201 by rounding
    above = np.searchsorted(-ranking.thresholds, -thresholds)  # how many distinct scores lie above each threshold
    fpr, overlap = (curve[above] for curve in pro_curve(ranking))
    fpr, overlap = fpr[fpr < FPR_LIMIT][::-1], overlap[fpr < FPR_LIMIT][::-1]
    if np.unique(fpr).size < 2:
        raise UndefinedMetricError(f"fewer than two of {STEPS} thresholds differ in a false positive rate below 0.3")
    return _area((fpr - fpr[0]) / (fpr[-1] - fpr[0]), overlap)


def _area(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the area below a curve by trapezoids."""
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)
