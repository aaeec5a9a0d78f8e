"""Ablation steps: the AUROC of each variant of a method, in order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from kanoclip.metrics.registry import LEVELS
from kanoclip.report.figures.summary import draw_whiskers, read_aurocs, with_intervals
from kanoclip.report.registry import figure
from kanoclip.report.style import Mark, drawing, marks, say

MEAN = "mean of the datasets"


@figure(per="ablation", place=80)
def steps(metrics: Path, methods: Sequence[str], datasets: Sequence[str], out: Path) -> None:
    """Ablation.

    Image and pixel AUROC of each variant in percent, in the order in which components are added. Thin lines: datasets,
    unweighted means over classes; thick line: the unweighted mean over the datasets on which every variant has a value.
    Black whiskers with caps: standard deviation of that mean over seeds; grey whiskers: 95 % bootstrap interval over
    images, with one dataset and one seed.

    Args:
        metrics: the long-format metrics.csv of the ablation.
        methods: the variants, in the order in which components are added.
        datasets: the lines.
        out: the PNG; a PDF and an SVG are written beside it.

    Raises:
        InputError: a variant is not in the metrics.
    """
    rows = read_aurocs(metrics, methods)
    with drawing(out, 1, len(LEVELS), (max(2.6, 0.9 + 0.45 * len(methods)), 3.0)) as (picture, panels):
        for level, panel in zip(LEVELS, panels[0], strict=True):
            panel.set_title(f"{level} AUROC (%)")
            _draw(panel, rows[rows["level"] == level], methods, datasets)
        lines = {line.get_label(): line for panel in panels[0] for line in panel.get_legend_handles_labels()[0]}
        picture.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=4)


def _draw(panel: Axes, rows: pd.DataFrame, variants: Sequence[str], datasets: Sequence[str]) -> None:
    complete = [name for name in datasets if _has_all(rows[rows["dataset"] == name], variants)]
    if not complete:
        say(panel, "no dataset has a value for every variant")
        return
    rows = rows[rows["dataset"].isin(complete)]
    mean = rows.groupby(["level", "method", "seed"], as_index=False)["value"].mean().assign(dataset=MEAN, reason="")
    lines = [*complete, MEAN] if len(complete) > 1 else complete
    cells = with_intervals(pd.concat([rows, mean])).set_index("method")
    looks = marks(datasets) | {MEAN: Mark((0.0, 0.0, 0.0), "o", "", "-")}
    places = range(len(variants))
    for name in lines:
        cell = cells[cells["dataset"] == name].loc[list(variants)]
        main = name == lines[-1]
        look: dict[str, Any] = {"color": looks[name].colour, "linestyle": looks[name].line}
        look |= {"marker": looks[name].marker, "linewidth": 2.2 if main else 0.8, "markersize": 5 if main else 3}
        panel.plot(places, cell["value"], label=name, **look)
        if main:
            draw_whiskers(panel, places, cell)
    panel.set_xticks(places, variants, rotation=30, ha="right")
    panel.margins(x=0.08)


def _has_all(rows: pd.DataFrame, variants: Sequence[str]) -> bool:
    return set(variants) <= set(rows["method"]) and bool(rows["value"].notna().all())
