"""ROC and per-region overlap curves, thinned for drawing; the points that are kept are exact."""

import numpy as np
from numpy.typing import NDArray

from kanoclip.metrics.aupro import FPR_LIMIT, pro_curve, up_to
from kanoclip.metrics.ranking import Ranking

CURVES_COLUMNS = ["class_name", "level", "curve", "x", "y"]
"""The columns of curves.csv. curve: roc (x false, y true positive rate) or pro (x false positive rate, y overlap)."""
MAX_POINTS = 500

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def roc_curve_points(ranking: Ranking) -> Curve:
    """Return points of the ROC curve, from (0, 0) to (1, 1).

    Returns:
        False and true positive rates, each (M,) and non-decreasing, with M at most 500.

    >>> from kanoclip.metrics.ranking import rank
    >>> fpr, tpr = roc_curve_points(rank(np.array([0.9, 0.4]), np.array([0.5, 0.1])))
    >>> fpr.tolist(), tpr.tolist()
    ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    return _thinned(ranking.false_positive_rates, ranking.true_positive_rates)


def pro_curve_points(ranking: Ranking) -> Curve:
    """Return points of the per-region overlap curve, from (0, 0) to the false positive rate 0.3.

    Args:
        ranking: pixels ranked with the weights of `region_weights`.

    Returns:
        False positive rates and mean overlaps, each (M,) and non-decreasing, with M at most 500.

    >>> from kanoclip.metrics.ranking import rank
    >>> fpr, overlap = pro_curve_points(rank(np.array([0.9, 0.4]), np.array([0.5, 0.1])))
    >>> fpr.tolist(), overlap.tolist()
    ([0.0, 0.0, 0.3], [0.0, 0.5, 0.5])
    """
    return _thinned(*up_to(FPR_LIMIT, *pro_curve(ranking)))


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> Curve:
    """Keep at most 500 points of a rising curve, evenly spaced along it, including the first and the last."""
    if x.size <= MAX_POINTS:
        return x, y
    along = x + y
    kept = np.unique(np.searchsorted(along, np.linspace(along[0], along[-1], MAX_POINTS)))
    return x[kept], y[kept]
