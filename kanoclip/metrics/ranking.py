"""What every ranking metric needs, from one sort, exact with ties. Pure NumPy.

Such metrics change only where a positive lies: between two positives the recall stands still, so further negatives can
only lower the precision, and their order does not matter to the area. It is therefore enough to know, at each distinct
score of the positives, how many positives have it and how many negatives lie above it or are tied with it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class UndefinedMetricError(ValueError):
    """A metric has no value for this input; the message is the reason that goes into the table."""


@dataclass(frozen=True)
class Ranking:
    """Where the positives lie among the negatives, at each of the K distinct scores of the positives, highest first.

    Attributes:
        thresholds: (K,) the distinct scores, descending.
        positives: (K,) int64, positives with exactly this score.
        negatives_above: (K,) int64, negatives with a higher score.
        negatives_tied: (K,) int64, negatives with exactly this score.
        weights: (K,) float64, sum of the weights of the positives with this score.
        n_negatives: all negatives.
    """

    thresholds: NDArray[np.floating]
    positives: NDArray[np.int64]
    negatives_above: NDArray[np.int64]
    negatives_tied: NDArray[np.int64]
    weights: NDArray[np.float64]
    n_negatives: int


def rank(
    positives: NDArray[np.floating],
    negatives: NDArray[np.floating],
    weights: NDArray[np.float64] | None = None,
) -> Ranking:
    """Rank the scores of the positives among those of the negatives. Sorts each once.

    Args:
        positives: (P,) finite scores of anomalous images or pixels.
        negatives: (N,) finite scores of normal images or pixels, of the same type.
        weights: (P,) weight of each positive, for AUPRO; 1 if not given.

    Raises:
        UndefinedMetricError: there are no positives, or no negatives.
    """
    if positives.size == 0:
        raise UndefinedMetricError("one class only: all normal")
    if negatives.size == 0:
        raise UndefinedMetricError("one class only: all anomalous")
    order = np.argsort(positives, kind="stable")
    ascending = positives[order]
    starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
    thresholds = ascending[starts]
    counts = np.diff(starts, append=positives.size)
    sums = counts.astype(np.float64) if weights is None else np.add.reduceat(weights[order], starts)

    negatives = np.sort(negatives)
    below = np.searchsorted(negatives, thresholds, side="left")
    not_above = np.searchsorted(negatives, thresholds, side="right")
    return Ranking(
        thresholds=thresholds[::-1],
        positives=counts[::-1],
        negatives_above=(negatives.size - not_above)[::-1],
        negatives_tied=(not_above - below)[::-1],
        weights=sums[::-1],
        n_negatives=negatives.size,
    )
