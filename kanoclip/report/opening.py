"""What the page's gallery opens on: the row that the run is about, and the class of each dataset where it does best."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from kanoclip.metrics.registry import get_metric
from kanoclip.report.gallery import DatasetView

LEVELS = ("pixel", "image")  # the first that has values decides: where a map meets its mask there is something to see
METRIC = "ap"


@dataclass(frozen=True)
class Opening:
    """A first choice in the gallery.

    Attributes:
        dataset: by its name.
        method: the row.
        classes: the class of each dataset that is shown first.
        why: the reason in one sentence; "" if there are no metrics to choose by.
    """

    dataset: str
    method: str
    classes: dict[str, str]
    why: str


def opening(views: Mapping[str, DatasetView], metrics: pd.DataFrame | None) -> Opening:
    """Choose what the gallery opens on.

    The method is the last one: rows come in the order of the configuration, its subject last. Of each dataset the class
    is taken on which this row has its highest pixel AP, mean over seeds; image AP where there are no masks, the first
    class without metrics. The dataset is the one of the highest value, pixel AP before image AP.

    Args:
        views: datasets of the gallery, at least one.
        metrics: the long metrics.csv; None for none.
    """
    method = list(next(iter(views.values())).methods)[-1]
    best = {name: _best_class(name, view, method, metrics) for name, view in views.items()}
    dataset = max(best, key=lambda name: best[name][:2])  # of several the first
    level, value, shown = best[dataset]
    why = ""
    if not math.isinf(value):
        label = get_metric(LEVELS[-level], METRIC).label
        reached = f"{label}, {100 * value:.0f} %"
        why = f"Opens with {method} on {shown} ({dataset}): of all classes the one with its highest {reached}."
    return Opening(dataset, method, {name: found[2] for name, found in best.items()}, why)


def _best_class(name: str, view: DatasetView, method: str, metrics: pd.DataFrame | None) -> tuple[int, float, str]:
    """Return how early the level stands in LEVELS (0 first, then -1 ...), the value and the class."""
    classes = list(next(iter(view.methods.values())).classes)
    if metrics is not None:
        chosen = metrics[(metrics["dataset"] == name) & (metrics["method"] == method) & (metrics["metric"] == METRIC)]
        for place, level in enumerate(LEVELS):
            values = chosen[chosen["level"] == level].groupby("class_name")["value"].mean()
            known = values.reindex(classes).dropna()
            if not known.empty:
                return -place, float(known.max()), str(known.idxmax())
    return -len(LEVELS), -math.inf, classes[0]
