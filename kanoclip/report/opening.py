"""Choose what the gallery shows first: the last row, and the class of each dataset where it does best."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from kanoclip.metrics.registry import get_metric
from kanoclip.report.gallery import DatasetView

LEVELS = ("pixel", "image")  # the first with values decides, as maps are best judged against masks
METRIC = "ap"


@dataclass(frozen=True)
class Opening:
    """The initial choices of the gallery.

    Attributes:
        dataset: its name.
        method: the row.
        classes: the first class of each dataset.
        why: the reason in one sentence; "" without metrics.
    """

    dataset: str
    method: str
    classes: dict[str, str]
    why: str


def opening(views: Mapping[str, DatasetView], metrics: pd.DataFrame | None) -> Opening:
    """Choose what the gallery shows first.

    The method is the last row, usually the subject of the run. The class of each dataset is the one with the highest
    pixel AP of this row, averaged over seeds, or image AP without masks, or the first class without metrics. The
    dataset is the one with the highest value, pixel AP before image AP.

    Args:
        views: the datasets of the gallery, at least one.
        metrics: the long-format metrics.csv, or None.
    """
    method = list(next(iter(views.values())).methods)[-1]
    best = {name: _best_class(name, view, method, metrics) for name, view in views.items()}
    dataset = max(best, key=lambda name: best[name][:2])  # the first of equal ones
    level, value, shown = best[dataset]
    why = ""
    if not math.isinf(value):
        label = get_metric(LEVELS[-level], METRIC).label
        reached = f"{label}, {100 * value:.0f} %"
        why = f"Opens with {method} on {shown} ({dataset}): of all classes the one with its highest {reached}."
    return Opening(dataset, method, {name: found[2] for name, found in best.items()}, why)


def _best_class(name: str, view: DatasetView, method: str, metrics: pd.DataFrame | None) -> tuple[int, float, str]:
    """Return the priority of the level (0 for the first of LEVELS, then -1), the value and the class."""
    classes = list(next(iter(view.methods.values())).classes)
    if metrics is not None:
        chosen = metrics[(metrics["dataset"] == name) & (metrics["method"] == method) & (metrics["metric"] == METRIC)]
        for place, level in enumerate(LEVELS):
            values = chosen[chosen["level"] == level].groupby("class_name")["value"].mean()
            known = values.reindex(classes).dropna()
            if not known.empty:
                return -place, float(known.max()), str(known.idxmax())
    return -len(LEVELS), -math.inf, classes[0]
