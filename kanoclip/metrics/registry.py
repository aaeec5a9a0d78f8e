"""Every metric by level and name, with what a table must know about it. A new metric is one decorated function."""

from collections.abc import Callable
from dataclasses import dataclass

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
    """A metric and what a table must know about it.

    Attributes:
        name: as in metrics.csv, e.g. "f1_max".
        level: "image" (one score an image) or "pixel" (one score a pixel).
        label: as in a table, e.g. "image F1-max".
        lowest: the smallest possible value.
        highest: the largest possible value.
        higher_is_better: the direction.
        compute: from the ranking of a class to the value.
        threshold: from the ranking to the score at which the value is reached; None if it has no such score.
    """

    name: str
    level: str
    label: str
    lowest: float
    highest: float
    higher_is_better: bool
    compute: Callable[[Ranking], float]
    threshold: Callable[[Ranking], float] | None = None


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
) -> Callable[[Callable[[Ranking], float]], Callable[[Ranking], float]]:
    """Register the decorated function as a metric, once a level.

    Args:
        name: as in metrics.csv.
        label: as in a table, without the level.
        levels: "image", "pixel" or both.
        lowest: the smallest possible value.
        highest: the largest possible value.
        higher_is_better: the direction.
        threshold: see `Metric`.
    """

    def register(compute: Callable[[Ranking], float]) -> Callable[[Ranking], float]:
        for level in levels:
            METRICS[level, name] = Metric(
                name, level, f"{level} {label}", lowest, highest, higher_is_better, compute, threshold
            )
        return compute

    return register


def get_metric(level: str, name: str) -> Metric:
    """The metric of a level by its name; an unknown one is an InputError that names the nearest."""
    if (level, name) not in METRICS:
        raise unknown_name(f"{level} metric", name, (known for at, known in METRICS if at == level))
    return METRICS[level, name]


def metrics_of(level: str) -> list[Metric]:
    """Every metric of a level, in the order of registration."""
    return [found for found in METRICS.values() if found.level == level]
