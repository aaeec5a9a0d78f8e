"""The registry of metrics by level and name. A new metric is one decorated function."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanoclip.metrics.ranking import Ranking
from kanoclip.types import unknown_name

METRICS_KEYS = ["method", "backbone", "auxiliary", "dataset", "class_name", "seed", "level", "metric"]
METRICS_NUMBERS = ["value", "low", "high", "threshold"]  # an empty cell is a missing number
METRICS_COLUMNS = [*METRICS_KEYS, *METRICS_NUMBERS, "reason"]
"""The columns of metrics.csv. low and high: a 95 % bootstrap interval; threshold: where the metric is reached."""

MEAN = "mean"  # the class_name of the unweighted mean over the classes of a dataset
LEVELS = ("image", "pixel")


@dataclass(frozen=True)
class Metric:
    """A metric and its properties.

    Attributes:
        name: as in metrics.csv, e.g. "f1_max".
        level: "image" (one score per image) or "pixel" (one score per pixel).
        label: as in a table, e.g. "image F1-max".
        lowest: the smallest possible value.
        highest: the largest possible value.
        higher_is_better: whether higher values are better.
        compute: returns the value for the ranking of a class.
        threshold: returns the score at which the value is reached; None if there is no such score.
        stacks: whether `compute` also takes stacked rankings (R, K) and returns (R,) values, for a fast bootstrap.
    """

    name: str
    level: str
    label: str
    lowest: float
    highest: float
    higher_is_better: bool
    compute: Callable[[Ranking], float]
    threshold: Callable[[Ranking], float] | None = None
    stacks: bool = False

    def of_each(self, stack: Ranking) -> NDArray[np.float64]:
        """Return the value (R,) of each of R stacked rankings."""
        return np.asarray(self.compute(stack) if self.stacks else [self.compute(one) for one in stack.unstacked()])


METRICS: dict[tuple[str, str], Metric] = {}
"""(level, name) to metric, in the order of registration."""


def metric(
    name: str,
    label: str,
    levels: tuple[str, ...] = LEVELS,
    lowest: float = 0.0,
    highest: float = 1.0,
    higher_is_better: bool = True,
    threshold: Callable[[Ranking], float] | None = None,
    stacks: bool = False,
) -> Callable[[Callable[[Ranking], float]], Callable[[Ranking], float]]:
    """Register the decorated function as a metric, once per level.

    Args:
        name: as in metrics.csv.
        label: as in a table, without the level.
        levels: "image", "pixel" or both.
        lowest: the smallest possible value.
        highest: the largest possible value.
        higher_is_better: whether higher values are better.
        threshold: see `Metric`.
        stacks: see `Metric`.
    """

    def register(compute: Callable[[Ranking], float]) -> Callable[[Ranking], float]:
        for level in levels:
            METRICS[level, name] = Metric(
                name, level, f"{level} {label}", lowest, highest, higher_is_better, compute, threshold, stacks
            )
        return compute

    return register


def get_metric(level: str, name: str) -> Metric:
    """Return the metric of a level by its name; the InputError for an unknown name suggests the nearest.

    >>> get_metric("pixel", "auroc").label
    'pixel AUROC'
    """
    if (level, name) not in METRICS:
        raise unknown_name(f"{level} metric", name, (known for at, known in METRICS if at == level))
    return METRICS[level, name]


def metrics_of(level: str) -> list[Metric]:
    """Return every metric of a level, in the order of registration.

    >>> [metric.name for metric in metrics_of("image")]
    ['auroc', 'ap', 'f1_max', 'f1_auxiliary', 'fpr_auxiliary']
    """
    return [found for found in METRICS.values() if found.level == level]
