"""One number of a table, wherever it comes from, and how metrics over seeds and datasets become such numbers."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kanoclip.metrics.registry import MEAN, get_metric
from kanoclip.types import InputError, unknown_name

HERE, KANOCLIP_PAPER, OWN_PAPER = "here", "KAnoCLIP paper", "own paper"  # the three kinds of number
AVERAGE = "average"  # the dataset of a mean over datasets
NOT_RUN = "not run"


class Measure(NamedTuple):
    """What a number measures; the names are those of metrics.csv."""

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
        mean: over seeds; NaN when a seed has no value.
        std: sample standard deviation over seeds; NaN with one seed.
        kind: of number: run here, printed in the KAnoCLIP paper, or printed in the method's own paper.
        source: of a printed number, like the next.
        title: the row's name as printed.
        backbone: of a number run here, like the next two.
        auxiliary: the dataset the method was trained on, or "none".
        seeds: that were averaged.
        seen: the method was trained on the dataset.
        control: the row is no competitor.
        marks: of the row; see `notes.MARKS`.
        doubtful: the printed number is in doubt; `note` says why.
        note: why there is no value or what to know about it; "" for nothing.
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
        """The mean as it is shown and ranked, with one decimal."""
        return round(self.mean, 1)

    @property
    def label(self) -> str:
        """The metric as in a table."""
        return get_metric(self.level, self.metric).label

    @property
    def measure(self) -> Measure:
        """What is measured: cells that can be compared share it."""
        return Measure(self.dataset, self.class_name, self.level, self.metric)

    @property
    def ranked(self) -> bool:
        """Whether it can be the best or second best: not a printed number, a control or a dataset seen in training."""
        return self.kind == HERE and not (math.isnan(self.mean) or self.seen or self.control)


def check_names(frame: pd.DataFrame, methods: Iterable[str], datasets: Iterable[str]) -> None:
    """Refuse rows and columns that the metrics do not have.

    Raises:
        InputError: it names the nearest that they have.
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
        controls: those that are not ranked.
        marks: of the rows that have any.

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

    A dataset on which no row has a value, such as one without masks, is left out for all rows, and the reason says so;
    a row that lacks any of the others has no average. The column `seen` says whether one of them was seen in training.

    Args:
        frame: long metrics.
        datasets: to average over.
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
    """Return the best and second best value, as shown, among measured ones; equal values share a place."""
    values: dict[Measure, set[float]] = {}
    for cell in cells:
        values.setdefault(cell.measure, set()).update({cell.shown} if cell.ranked else ())
    places: dict[Measure, tuple[float | None, float | None]] = {}
    for measure, distinct in values.items():
        higher_is_better = get_metric(measure.level, measure.metric).higher_is_better
        best, second, *_ = [*sorted(distinct, reverse=higher_is_better), None, None]
        places[measure] = best, second
    return places
