"""AUROC, average precision and F1-max, of image scores or of pixels."""

import numpy as np
from numpy.typing import NDArray

from kanoclip.metrics.ranking import Ranking
from kanoclip.metrics.registry import metric


@metric("auroc", "AUROC")
def auroc(ranking: Ranking) -> float:
    """Area under the ROC curve: the chance that a positive lies above a negative, ties counting one half."""
    n_pairs = float(ranking.true_positives[-1]) * float(ranking.false_positives[-1])
    lost = ranking.positives * (ranking.false_positives - 0.5 * ranking.negatives)
    return float(1.0 - lost.sum() / n_pairs)


@metric("ap", "AP")
def average_precision(ranking: Ranking) -> float:
    """Average precision: precision at each threshold, weighted by the recall gained there (no interpolation)."""
    precision = ranking.true_positives / (ranking.true_positives + ranking.false_positives)
    return float(np.sum(ranking.positives * precision) / ranking.true_positives[-1])


def f1_max_threshold(ranking: Ranking) -> float:
    """The highest threshold that reaches F1-max; what lies at or above it is called anomalous."""
    return float(ranking.thresholds[np.argmax(_f1(ranking))])


@metric("f1_max", "F1-max", threshold=f1_max_threshold)
def f1_max(ranking: Ranking) -> float:
    """The highest F1 over all thresholds."""
    return float(np.max(_f1(ranking)))


def _f1(ranking: Ranking) -> NDArray[np.float64]:
    predicted = ranking.true_positives + ranking.false_positives
    return 2.0 * ranking.true_positives / (predicted + ranking.true_positives[-1])
