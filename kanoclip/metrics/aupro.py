"""AUPRO: area under the per-region overlap curve up to a false positive rate of 0.3, exact with ties.

The curve is the mean over all ground-truth regions of the fraction of the region at or above a threshold, against the
fraction of all normal pixels at or above it (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021). Give
each anomalous pixel the weight 1 / (size of its region): the mean overlap is then a weighted count of pixels, and the
area is a sum over the pixels. No curve, no thresholds, one sort.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kanoclip.metrics.ranking import Ranking
from kanoclip.metrics.registry import metric

FPR_LIMIT = 0.3
EIGHT_CONNECTED = np.ones((3, 3), dtype=int)


def region_weights(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The weight of each anomalous pixel: 1 / (size of its 8-connected region).

    Args:
        mask: (H, W) True where anomalous.

    Returns:
        (P,) in the order of `map[mask]`; the weights sum to the number of regions.
    """
    regions, _ = ndimage.label(mask, structure=EIGHT_CONNECTED)
    region_of_pixel = regions[mask]
    return 1.0 / np.bincount(region_of_pixel)[region_of_pixel]


@metric("aupro", "AUPRO", levels=("pixel",))
def aupro(ranking: Ranking) -> float:
    """Area under the per-region overlap curve up to a false positive rate of 0.3, divided by 0.3.

    A threshold takes its positives and the negatives tied with them together, so the curve rises along a straight line
    from the rate `before` to the rate `after`; a pixel is worth the area to the right of that line, cut at the limit.

    Args:
        ranking: pixels ranked with the weights of `region_weights`.
    """
    before = ranking.negatives_above / ranking.n_negatives
    after = (ranking.negatives_above + ranking.negatives_tied) / ranking.n_negatives
    whole = FPR_LIMIT - (before + after) / 2
    cut = np.clip(FPR_LIMIT - before, 0.0, None) ** 2 / (2 * np.where(after > before, after - before, 1.0))
    area = np.where(after <= FPR_LIMIT, whole, cut)
    return float(np.sum(ranking.weights * area) / (ranking.weights.sum() * FPR_LIMIT))
