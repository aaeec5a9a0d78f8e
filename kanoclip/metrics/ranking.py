"""What every metric needs: how many anomalous and normal images, or pixels, have each score. Pure NumPy."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


class UndefinedMetricError(ValueError):
    """A metric has no value for this input; the message is the reason that goes into the table."""


@dataclass(frozen=True)
class Ranking:
    """The positives and negatives at each of the K distinct scores, highest first. Ties are one entry.

    Attributes:
        thresholds: (K,) the distinct scores, descending.
        positives: (K,) int64, anomalous images or pixels with exactly this score.
        negatives: (K,) int64, normal ones with exactly this score.
        weights: (K,) float64, sum of the weights of the positives with this score.

    Raises:
        UndefinedMetricError: there are no positives, or no negatives.
    """

    thresholds: NDArray[np.floating]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    weights: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not self.positives.any():
            raise UndefinedMetricError("one class only: all normal")
        if not self.negatives.any():
            raise UndefinedMetricError("one class only: all anomalous")

    @cached_property
    def true_positives(self) -> NDArray[np.int64]:
        """(K,) positives at or above each threshold; the last entry is all of them."""
        return np.cumsum(self.positives)

    @cached_property
    def false_positives(self) -> NDArray[np.int64]:
        """(K,) negatives at or above each threshold; the last entry is all of them."""
        return np.cumsum(self.negatives)

    def resamples(self, count: int, generator: np.random.Generator) -> Iterator["Ranking"]:
        """Bootstrap: draw as many positives and as many negatives as there are, with replacement.

        Positives and negatives are drawn apart, so that no draw lacks a class.

        Args:
            count: how many draws.
            generator: makes them.

        Yields:
            Rankings in which each positive has the weight 1.
        """
        draws = [
            generator.multinomial(found.sum(), found / found.sum(), size=count)
            for found in (self.positives, self.negatives)
        ]
        for positives, negatives in zip(*draws, strict=True):
            drawn = (positives > 0) | (negatives > 0)
            yield Ranking(self.thresholds[drawn], positives[drawn], negatives[drawn], positives[drawn].astype(float))


def rank(
    positives: NDArray[np.floating],
    negatives: NDArray[np.floating],
    weights: NDArray[np.float64] | None = None,
) -> Ranking:
    """Rank scores by sorting them: exact for every floating type. Pixels are counted instead (kanoclip.metrics.counts).

    Args:
        positives: (P,) finite scores of anomalous images or pixels.
        negatives: (N,) finite scores of normal images or pixels, of the same type.
        weights: (P,) weight of each positive, for AUPRO; 1 if not given.

    Raises:
        UndefinedMetricError: there are no positives, or no negatives.
    """
    scores, place = np.unique(np.concatenate([positives, negatives]), return_inverse=True)
    at, rest = place[: positives.size], place[positives.size :]
    n = scores.size
    return Ranking(
        thresholds=scores[::-1],
        positives=np.bincount(at, minlength=n)[::-1],
        negatives=np.bincount(rest, minlength=n)[::-1],
        weights=np.bincount(at, weights, minlength=n)[::-1].astype(np.float64),
    )
