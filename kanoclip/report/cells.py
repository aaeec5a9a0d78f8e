"""The cells of tables, and how they aggregate metrics over seeds and datasets."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kanoclip.metrics.registry import MEAN, get_metric
from kanoclip.types import InputError, unknown_name

HERE, KANOCLIP_PAPER, OWN_PAPER = "here", "KAnoCLIP paper", "own paper"  # the three origins of a number
AVERAGE = "average"  # the dataset of a mean over datasets
NOT_RUN = "not run"


class Measure(NamedTuple):
    """The dataset, class, level and metric of a number, as in metrics.csv."""

    dataset: str
    class_name: str
    level: str
    metric: str


@dataclass(frozen=True)
class Cell:
    """One number, in percent.

    Attributes:
        method: the row.
        dataset: or "average".
        class_name: or "mean", the unweighted mean over the classes.
        level: "image" or "pixel".
        metric: as in metrics.csv.
        mean: over seeds; NaN if a seed has no value.
        std: sample standard deviation over seeds; NaN with one seed.
        kind: origin of the number: run here, printed in the KAnoCLIP paper, or printed in the method's own paper.
        source: paper, version and table of a printed number.
        title: the row's name as printed, for a printed number.
        backbone: for a number run here.
        auxiliary: the dataset the method was trained on, or "none"; for a number run here.
        seeds: the seeds averaged; for a number run here.
        seen: whether the method was trained on the dataset.
        control: whether the row is a control.
        marks: marks of the row; see `notes.MARKS`.
        doubtful: whether the printed number is in doubt; `note` says why.
        note: why there is no value, or a remark about it; "" for none.
    """

    method: str
    dataset: str
    class_name: str
    level: str
    metric: str
    mean: float
    std: float = math.nan
    kind: str = HERE
    source: str = ""
    title: str = ""
    backbone: str = ""
    auxiliary: str = ""
    seeds: tuple[int, ...] = ()
    seen: bool = False
    control: bool = False
    marks: tuple[str, ...] = ()
    doubtful: bool = False
    note: str = ""

    @property
    def shown(self) -> float:
        """The mean rounded to one decimal, as shown and ranked."""
        return round(self.mean, 1)

    @property
    def label(self) -> str:
        """The label of the metric in tables."""
        return get_metric(self.level, self.metric).label

    @property
    def measure(self) -> Measure:
        """The measure; comparable cells have the same."""
        return Measure(self.dataset, self.class_name, self.level, self.metric)

    @property
    def ranked(self) -> bool:
        """Whether it can be best or second best: not a printed number, a control or on a dataset seen in training."""
        return self.kind == HERE and not (math.isnan(self.mean) or self.seen or self.control)


def check_names(frame: pd.DataFrame, methods: Iterable[str], datasets: Iterable[str]) -> None:
    """Refuse methods and datasets that the metrics do not have.

    Raises:
        InputError: a name is unknown; the message suggests the nearest.
    """
    for kind, wanted in (("method", methods), ("dataset", datasets)):
        known = set(frame[kind])
        for name in wanted:
            if name not in known:
                raise unknown_name(f"{kind} in the metrics", name, known)


def cells_of(
    frame: pd.DataFrame,
    methods: Sequence[str],
    controls: Collection[str],
    marks: Mapping[str, tuple[str, ...]] | None = None,
) -> list[Cell]:
    """Return one cell per (method, dataset, class, metric), over its seeds.

    Args:
        frame: long metrics, as `collect` returns them, with or without the rows of `averages`.
        methods: the rows, in this order; one with several backbones becomes a row for each.
        controls: the methods that are not ranked.
        marks: marks of each marked row.

    Raises:
        InputError: a cell mixes several auxiliary datasets.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in frame[frame["method"].isin(methods)].to_dict("records"):
        key = tuple(row[name] for name in ("method", "backbone", *Measure._fields))
        groups.setdefault(key, []).append({str(name): value for name, value in row.items()})
    backbones = frame.groupby("method")["backbone"].nunique()
    cells = []
    for (method, backbone, *_), seeds in sorted(groups.items(), key=lambda group: methods.index(group[0][0])):
        name = method if backbones[method] == 1 else f"{method} ({backbone})"
        cells.append(_over_seeds(name, seeds, method in controls, (marks or {}).get(method, ())))
    return cells


def _over_seeds(name: str, seeds: list[dict[str, Any]], control: bool, marks: tuple[str, ...]) -> Cell:
    first = seeds[0]
    auxiliaries = list(dict.fromkeys(seed["auxiliary"] for seed in seeds))
    if len(auxiliaries) > 1:
        raise InputError(
            f"{first['method']} on {first['dataset']}: one cell with several auxiliary datasets "
            f"({', '.join(auxiliaries)}); give the metrics of one"
        )
    percent = 100 * np.array([seed["value"] for seed in seeds])
    return Cell(
        name,
        first["dataset"],
        first["class_name"],
        first["level"],
        first["metric"],
        mean=float(percent.mean()),
        std=float(percent.std(ddof=1)) if len(seeds) > 1 else math.nan,
        backbone=first["backbone"],
        auxiliary=auxiliaries[0],
        seeds=tuple(seed["seed"] for seed in seeds),
        seen=first["seen"] if first["dataset"] == AVERAGE else auxiliaries[0] == first["dataset"],
        control=control,
        marks=marks,
        note=next((seed["reason"] for seed in seeds if seed["reason"]), ""),
    )


def averages(frame: pd.DataFrame, datasets: Sequence[str]) -> pd.DataFrame:
    """Return the unweighted mean over datasets of their class means, as rows of a dataset "average".

    A dataset without any value, such as one without masks, is left out for all rows, and the reason says so; a row
    that lacks one of the others has no average. The column `seen` states whether any was seen in training.

    Args:
        frame: long metrics.
        datasets: the datasets to average over.
    """
    means = frame[(frame["class_name"] == MEAN) & frame["dataset"].isin(datasets)]
    keys = ["method", "backbone", "seed"]
    parts = []
    for (level, metric), part in means.groupby(["level", "metric"], sort=False):
        values = part.pivot(index=keys, columns="dataset", values="value").dropna(axis="columns", how="all")
        over = [dataset for dataset in datasets if dataset in values]
        seen = (part["auxiliary"] == part["dataset"]) & part["dataset"].isin(over)
        average = pd.DataFrame({"value": values.mean(axis="columns", skipna=False)})
        average["seen"] = seen.groupby([part[key] for key in keys]).any()
        average["reason"] = "" if len(over) == len(datasets) else f"over {', '.join(over) or 'no dataset'}"
        average.loc[average["value"].isna() & bool(over), "reason"] = "not every dataset has a value"
        parts.append(average.reset_index().assign(level=str(level), metric=str(metric)))
    return pd.concat(parts, ignore_index=True).assign(dataset=AVERAGE, class_name=MEAN, auxiliary="")


def best_two(cells: Iterable[Cell]) -> dict[Measure, tuple[float | None, float | None]]:
    """Return the best and the second best shown value of each measure among ranked cells; equal values share a rank."""
    values: dict[Measure, set[float]] = {}
    for cell in cells:
        values.setdefault(cell.measure, set()).update({cell.shown} if cell.ranked else ())
    places: dict[Measure, tuple[float | None, float | None]] = {}
    for measure, distinct in values.items():
        higher_is_better = get_metric(measure.level, measure.metric).higher_is_better
        best, second, *_ = [*sorted(distinct, reverse=higher_is_better), None, None]
        places[measure] = best, second
    return places
