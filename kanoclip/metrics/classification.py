"""AUROC, average precision and F1-max, of image scores or of pixels."""

import numpy as np

from kanoclip.metrics.ranking import Ranking
from kanoclip.metrics.registry import metric


@metric("auroc", "AUROC")
def auroc(ranking: Ranking) -> float:
    """Area under the ROC curve: the chance that a positive lies above a negative, ties counting one half."""
    n_pairs = float(ranking.positives.sum()) * ranking.n_negatives
    lost = ranking.positives * (ranking.negatives_above + 0.5 * ranking.negatives_tied)
    return float(1.0 - lost.sum() / n_pairs)


@metric("ap", "AP")
def average_precision(ranking: Ranking) -> float:
    """Average precision: precision at each threshold, weighted by the recall gained there (no interpolation)."""
    true_positives = np.cumsum(ranking.positives)
    predicted = true_positives + ranking.negatives_above + ranking.negatives_tied
    return float(np.sum(ranking.positives * (true_positives / predicted)) / true_positives[-1])


@metric("f1_max", "F1-max")
def f1_max(ranking: Ranking) -> float:
    """The highest F1 over all thresholds."""
    true_positives = np.cumsum(ranking.positives)
    predicted = true_positives + ranking.negatives_above + ranking.negatives_tied
    return float(np.max(2.0 * true_positives / (predicted + true_positives[-1])))
