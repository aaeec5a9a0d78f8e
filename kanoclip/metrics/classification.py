"""AUROC, average precision, F1-max, and F1 and false alarms at a given threshold, for images or pixels.

All work along the last axis: for stacked rankings (R, K) they return an array (R,).
"""

import numpy as np
from numpy.typing import NDArray

from kanoclip.metrics.ranking import Ranking, UndefinedMetricError
from kanoclip.metrics.registry import metric


@metric("auroc", "AUROC", stacks=True)
def auroc(ranking: Ranking) -> float:
    """Return the area under the ROC curve: the probability that a positive outranks a negative, ties counting one half.

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
    """Return the highest threshold that reaches F1-max; scores at or above it are called anomalous.

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


def _decision(ranking: Ranking) -> float:
    """Return the threshold that was chosen beforehand; undefined, with the reason, if there is none."""
    if ranking.decision is None:
        raise UndefinedMetricError(ranking.no_decision)
    return ranking.decision


@metric("f1_auxiliary", "F1 at the auxiliary's threshold", threshold=_decision, stacks=True)
def f1_at_decision(ranking: Ranking) -> float:
    """Return F1 at the threshold that was best on auxiliary classes left out of training (`kanoclip.thresholds`).

    >>> from kanoclip.metrics.ranking import rank
    >>> float(f1_at_decision(rank(np.array([0.9, 0.4]), np.array([0.5, 0.1]), decision=0.5)))  # finds 1, 1 false alarm
    0.5
    """
    called = ranking.thresholds >= _decision(ranking)
    true, false = ((counts * called).sum(axis=-1) for counts in (ranking.positives, ranking.negatives))
    return 2.0 * true / (true + false + ranking.true_positives[..., -1])


@metric(
    "fpr_auxiliary",
    "false alarms at the auxiliary's threshold",
    higher_is_better=False,
    threshold=_decision,
    stacks=True,
)
def false_alarms_at_decision(ranking: Ranking) -> float:
    """Return the share of the normal images or pixels at or above the same threshold.

    >>> from kanoclip.metrics.ranking import rank
    >>> float(false_alarms_at_decision(rank(np.array([0.9, 0.4]), np.array([0.5, 0.1]), decision=0.5)))
    0.5
    """
    called = ranking.thresholds >= _decision(ranking)
    return (ranking.negatives * called).sum(axis=-1) / ranking.false_positives[..., -1]


def _f1(ranking: Ranking) -> NDArray[np.float64]:
    predicted = ranking.true_positives + ranking.false_positives
    return 2.0 * ranking.true_positives / (predicted + ranking.true_positives[..., -1:])
