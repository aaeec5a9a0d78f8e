"""Compute the rows of metrics.csv and curves.csv from the rankings of each class."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kanoclip.metrics.curves import CURVES_COLUMNS, pro_curve_points, roc_curve_points
from kanoclip.metrics.ranking import Ranking, UndefinedMetricError
from kanoclip.metrics.registry import MEAN, METRICS_COLUMNS, Metric, metrics_of

BOOTSTRAP_SEED = 0
INTERVAL = (0.025, 0.975)  # 95 %


@dataclass(frozen=True)
class Result:
    """One value of metrics.csv, or the reason why there is none.

    Attributes:
        class_name: a class of the dataset, or MEAN.
        level: "image" or "pixel".
        metric: its name.
        value: NaN if there is none.
        threshold: the score at which the value is reached; NaN if the metric has no such score.
        reason: why there is no value; "" if there is one.
        draws: (R,) bootstrap values; of size 0 without a bootstrap.
    """

    class_name: str
    level: str
    metric: str
    value: float = float("nan")
    threshold: float = float("nan")
    reason: str = ""
    draws: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def row(self) -> dict[str, Any]:
        """Return the columns of metrics.csv that this result fills."""
        low, high = np.quantile(self.draws, INTERVAL) if self.draws.size else (np.nan, np.nan)
        names = ("class_name", "level", "metric", "value", "threshold", "reason")
        return {name: getattr(self, name) for name in names} | {"low": low, "high": high}


class Results:
    """The metrics and curves of one scores.h5, added class by class, so that rankings need not be kept.

    Image metrics get a 95 % percentile bootstrap interval over images, drawn within each class and label. The draws of
    the classes are independent, so the interval of the class mean comes from the class mean of each draw.

    Args:
        bootstrap: the number of draws; 0 computes no intervals.
    """

    def __init__(self, bootstrap: int):
        self._bootstrap = bootstrap
        self._generator = np.random.default_rng(BOOTSTRAP_SEED)
        self._results: list[Result] = []
        self._curves: list[pd.DataFrame] = []

    def add(self, class_name: str, level: str, ranking: Ranking | UndefinedMetricError) -> None:
        """Compute every metric and curve for a class and level.

        Args:
            class_name: a class of the dataset. The bootstrap draws depend on the order of the classes.
            level: "image" or "pixel".
            ranking: ranking of its images or pixels, or the reason why there is none.
        """
        known = metrics_of(level)
        draws = np.empty((0, len(known)))
        if isinstance(ranking, Ranking):
            if level == "image" and self._bootstrap:
                draws = _draws(ranking, known, self._bootstrap, self._generator)
            self._curves += _curves(class_name, level, ranking)
        self._results += [_result(class_name, metric, ranking, draws[:, i]) for i, metric in enumerate(known)]

    def metrics(self) -> pd.DataFrame:
        """Return every metric of every class, then the unweighted class means.

        Returns:
            The METRICS_COLUMNS, with those that identify the evaluation left empty.
        """
        rows = [result.row() for result in self._results + _means(self._results)]
        return pd.DataFrame(rows).reindex(columns=METRICS_COLUMNS)

    def curves(self) -> pd.DataFrame:
        """Return the curves of every class: ROC of images and pixels, per-region overlap of pixels.

        Returns:
            The CURVES_COLUMNS, without rows for classes that have no ranking.
        """
        return pd.concat(self._curves) if self._curves else pd.DataFrame(columns=CURVES_COLUMNS)


def _draws(ranking: Ranking, metrics: list[Metric], count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return the bootstrap values (count, M) of M metrics; NaN for undefined ones."""
    values = np.full((count, len(metrics)), np.nan)
    for which, stack in ranking.resamples(count, generator):
        for i, metric in enumerate(metrics):
            with suppress(UndefinedMetricError):
                values[which, i] = metric.of_each(stack)
    return values


def _curves(class_name: str, level: str, ranking: Ranking) -> list[pd.DataFrame]:
    points = {"roc": roc_curve_points(ranking)}
    if level == "pixel":
        points["pro"] = pro_curve_points(ranking)
    return [
        pd.DataFrame({"class_name": class_name, "level": level, "curve": name, "x": x, "y": y})
        for name, (x, y) in points.items()
    ]


def _result(
    class_name: str, metric: Metric, ranking: Ranking | UndefinedMetricError, draws: NDArray[np.float64]
) -> Result:
    try:
        if isinstance(ranking, UndefinedMetricError):
            raise ranking
        value = metric.compute(ranking)
    except UndefinedMetricError as error:
        return Result(class_name, metric.level, metric.name, reason=str(error))
    threshold = metric.threshold(ranking) if metric.threshold else float("nan")
    return Result(class_name, metric.level, metric.name, value, threshold, draws=draws)


def _means(results: list[Result]) -> list[Result]:
    """Return the unweighted class mean of each metric; missing, with the reason, if any class lacks it."""
    means = []
    for level, name in dict.fromkeys((result.level, result.metric) for result in results):
        of_metric = [result for result in results if (result.level, result.metric) == (level, name)]
        value = float(np.mean([result.value for result in of_metric]))
        reason = _common_reason(of_metric)
        draws = np.empty(0) if reason else np.mean([result.draws for result in of_metric], axis=0)
        means.append(Result(MEAN, level, name, value, reason=reason, draws=draws))
    return means


def _common_reason(results: list[Result]) -> str:
    missing = [result for result in results if result.reason]
    reasons = {result.reason for result in missing}
    if len(missing) == len(results) and len(reasons) == 1:
        return missing[0].reason
    return "; ".join(f"{result.class_name}: {result.reason}" for result in missing)
