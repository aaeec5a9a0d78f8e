"""Rankings, the input of every metric: the numbers of anomalous and normal images or pixels at each score."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

NO_LABELS = "unlabelled images"  # why a class has no metrics


class UndefinedMetricError(ValueError):
    """A metric has no value for this input; the message is the reason shown in tables."""


@dataclass(frozen=True)
class Ranking:
    """The numbers of positives and negatives at each of the K distinct scores, highest first; ties share an entry.

    R rankings of K scores each can be stacked: every array then has the shape (R, K). Bootstrap draws come in stacks.

    Attributes:
        thresholds: (K,) the distinct scores, descending.
        positives: (K,) int64, the number of anomalous images or pixels with exactly this score.
        negatives: (K,) int64, the number of normal ones with exactly this score.
        weights: (K,) float64, the sum of the weights of the positives with this score.
        decision: a threshold that was chosen without these scores; None if there is none.
        no_decision: the reason why there is none.

    Raises:
        UndefinedMetricError: there are no positives, or no negatives.

    >>> ranking = rank(np.array([0.9, 0.5]), np.array([0.8, 0.5, 0.1]))
    >>> ranking.thresholds.tolist(), ranking.positives.tolist(), ranking.negatives.tolist()
    ([0.9, 0.8, 0.5, 0.1], [1, 0, 1, 0], [0, 1, 1, 1])
    >>> ranking.true_positives.tolist(), ranking.false_positives.tolist()
    ([1, 1, 2, 2], [0, 1, 2, 3])
    """

    thresholds: NDArray[np.floating]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    weights: NDArray[np.float64]
    decision: float | None = None
    no_decision: str = "no threshold from an auxiliary dataset"

    def __post_init__(self) -> None:
        if not self.positives.any():
            raise UndefinedMetricError("one class only: all normal")
        if not self.negatives.any():
            raise UndefinedMetricError("one class only: all anomalous")

    @cached_property
    def true_positives(self) -> NDArray[np.int64]:
        """(K,) number of positives at or above each threshold; the last entry counts all."""
        return np.cumsum(self.positives, axis=-1)

    @cached_property
    def false_positives(self) -> NDArray[np.int64]:
        """(K,) number of negatives at or above each threshold; the last entry counts all."""
        return np.cumsum(self.negatives, axis=-1)

    @cached_property
    def false_positive_rates(self) -> NDArray[np.float64]:
        """(K + 1,) share of the negatives at or above each threshold, from 0 (above every score) to 1."""
        return _shares(self.false_positives)

    @cached_property
    def true_positive_rates(self) -> NDArray[np.float64]:
        """(K + 1,) share of the positives at or above each threshold, from 0 (above every score) to 1."""
        return _shares(self.true_positives)

    @cached_property
    def weighted_positive_rates(self) -> NDArray[np.float64]:
        """(K + 1,) share of the positives' weight at or above each threshold, from 0 to 1."""
        return _shares(np.cumsum(self.weights))

    def resamples(self, count: int, generator: np.random.Generator) -> Iterator[tuple[NDArray[np.intp], "Ranking"]]:
        """Draw bootstrap samples: as many positives and negatives as there are, with replacement.

        Positives and negatives are drawn separately, so that each draw has both. Scores that are not drawn are dropped.

        Args:
            count: the number of draws.
            generator: the source of random numbers.

        Yields:
            The indices (R,) of draws that have the same number of distinct scores, and their stacked rankings; each
            positive has the weight 1.
        """
        draws = [
            generator.multinomial(found.sum(), found / found.sum(), size=count)
            for found in (self.positives, self.negatives)
        ]
        drawn = (draws[0] > 0) | (draws[1] > 0)  # (count, K)
        sizes = np.count_nonzero(drawn, axis=1)
        for size in np.unique(sizes):
            which = np.flatnonzero(sizes == size)
            at = np.nonzero(drawn[which])[1].reshape(-1, size)  # the scores that occur in each draw
            positives, negatives = (np.take_along_axis(found[which], at, axis=1) for found in draws)
            weights = positives.astype(float)
            yield which, Ranking(self.thresholds[at], positives, negatives, weights, self.decision, self.no_decision)

    def unstacked(self) -> Iterator["Ranking"]:
        """Yield the rankings of a stack one by one."""
        for arrays in zip(self.thresholds, self.positives, self.negatives, self.weights, strict=True):
            yield Ranking(*arrays, self.decision, self.no_decision)


def rank(
    positives: NDArray[np.floating],
    negatives: NDArray[np.floating],
    weights: NDArray[np.float64] | None = None,
    decision: float | None = None,
) -> Ranking:
    """Rank scores by sorting, exact for every floating type. Pixels are counted instead (kanoclip.metrics.counts).

    Args:
        positives: (P,) finite scores of anomalous images or pixels.
        negatives: (N,) finite scores of normal images or pixels, of the same type.
        weights: (P,) weight of each positive, for AUPRO; default: 1.
        decision: see `Ranking`.

    Raises:
        UndefinedMetricError: there are no positives, or no negatives.

    >>> rank(np.array([0.9, 0.5]), np.array([0.5])).true_positive_rates.tolist()
    [0.0, 0.5, 1.0]
    """
    scores, place = np.unique(np.concatenate([positives, negatives]), return_inverse=True)
    at, rest = place[: positives.size], place[positives.size :]
    n = scores.size
    return Ranking(
        thresholds=scores[::-1],
        positives=np.bincount(at, minlength=n)[::-1],
        negatives=np.bincount(rest, minlength=n)[::-1],
        weights=np.bincount(at, weights, minlength=n)[::-1].astype(np.float64),
        decision=decision,
    )


def _shares(cumulated: NDArray[np.number]) -> NDArray[np.float64]:
    """Return cumulative numbers (K,) as shares (K + 1,) of the last one, from 0 to 1."""
    shares = np.empty(cumulated.size + 1)
    shares[0] = 0.0
    np.divide(cumulated, cumulated[-1], out=shares[1:])
    return shares
