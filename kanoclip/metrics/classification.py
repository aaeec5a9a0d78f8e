"""AUROC, average precision and F1-max, of image scores or of pixels.

All three work along the last axis: of stacked rankings (R, K) they return an array (R,).
"""

import numpy as np
from numpy.typing import NDArray

from kanoclip.metrics.ranking import Ranking
from kanoclip.metrics.registry import metric


@metric("auroc", "AUROC", stacks=True)
def auroc(ranking: Ranking) -> float:
    """Return the area under the ROC curve: the chance that a positive lies above a negative, ties counting one half.

    >>> from kanoclip.metrics.ranking import rank
    >>> float(auroc(rank(np.array([0.9, 0.4]), np.array([0.5, 0.1]))))
    0.75
    """
    n_pairs = ranking.true_positives[..., -1].astype(float) * ranking.false_positives[..., -1]
    lost = ranking.positives * (ranking.false_positives - 0.5 * ranking.negatives)
    return 1.0 - lost.sum(axis=-1) / n_pairs


@metric("ap", "AP", stacks=True)
def average_precision(ranking: Ranking) -> float:
    """Return the average precision: precision at each threshold, weighted by the recall gained there.

    Precision is not interpolated.

    >>> from kanoclip.metrics.ranking import rank
    >>> float(average_precision(rank(np.array([0.9, 0.4]), np.array([0.5, 0.1]))))  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    precision = ranking.true_positives / (ranking.true_positives + ranking.false_positives)
    return np.sum(ranking.positives * precision, axis=-1) / ranking.true_positives[..., -1]


def f1_max_threshold(ranking: Ranking) -> float:
    """Return the highest threshold that reaches F1-max; what lies at or above it is called anomalous.

    >>> from kanoclip.metrics.ranking import rank
    >>> f1_max_threshold(rank(np.array([0.9, 0.4]), np.array([0.5, 0.1])))
    0.4
    """
    return float(ranking.thresholds[np.argmax(_f1(ranking))])


@metric("f1_max", "F1-max", threshold=f1_max_threshold, stacks=True)
def f1_max(ranking: Ranking) -> float:
    """Return the highest F1 over all thresholds.

    >>> from kanoclip.metrics.ranking import rank
    >>> float(f1_max(rank(np.array([0.9, 0.4]), np.array([0.5, 0.1]))))
    0.8
    """
    return np.max(_f1(ranking), axis=-1)


def _f1(ranking: Ranking) -> NDArray[np.float64]:
    predicted = ranking.true_positives + ranking.false_positives
    return 2.0 * ranking.true_positives / (predicted + ranking.true_positives[..., -1:])
