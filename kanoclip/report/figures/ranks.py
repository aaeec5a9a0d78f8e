"""Critical difference diagram: average ranks of methods over datasets (Demšar, JMLR 2006)."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from kanoclip.metrics.method_ranks import average_ranks, critical_difference
from kanoclip.metrics.registry import LEVELS
from kanoclip.report.figures.summary import read_aurocs, with_intervals
from kanoclip.report.registry import figure
from kanoclip.report.style import Mark, drawing, marks, save_reason

ALPHA = 0.05


@figure(per="run", place=30, least={"methods": 2, "datasets": 2})
def ranks(metrics: Path, methods: Sequence[str], datasets: Sequence[str], out: Path) -> None:
    """Average ranks.

    Average rank of each method by image and by pixel AUROC (means over classes and seeds), over the datasets on which
    every method has a value and on which none was trained; 1 is best. A level with fewer than two such datasets is left
    out. Thick bars join methods whose average ranks differ by no more than the critical difference of Nemenyi's test at
    level 0.05 (Demšar, JMLR 2006), i.e. not significantly. Controls are not ranked.

    Args:
        metrics: the long-format metrics.csv.
        methods: at least two.
        datasets: over which ranks are averaged.
        out: the PNG; a PDF and an SVG are written beside it.

    Raises:
        InputError: a method is not in the metrics.
    """
    rows = read_aurocs(metrics, methods)
    cells = with_intervals(rows[rows["dataset"].isin(datasets) & (rows["auxiliary"] != rows["dataset"])])
    tables = {level: _complete(cells[cells["level"] == level], methods) for level in LEVELS}
    ranked = {level: table for level, table in tables.items() if len(table) >= 2 and len(methods) >= 2}
    if not ranked:
        save_reason(out, "ranks need at least two methods with a value on at least two datasets")
        return
    with drawing(out, len(ranked), 1, (5.5, 0.9 + 0.12 * len(methods))) as (_, panels):
        for panel, (level, table) in zip(panels[:, 0], ranked.items(), strict=True):
            panel.set_title(f"{level} AUROC (datasets: {len(table)})", loc="left")
            distance = critical_difference(len(methods), len(table), ALPHA)
            _draw(panel, average_ranks(table).sort_values(kind="stable"), distance, marks(methods))


def _complete(cells: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return the values of each method (columns) on the datasets (rows) where every method has one."""
    return cells.pivot(index="dataset", columns="method", values="value").reindex(columns=list(methods)).dropna()


def cliques(ranks: Sequence[float], distance: float) -> list[tuple[int, int]]:
    """Return the longest runs of ranks that lie within a distance.

    Args:
        ranks: ascending.
        distance: largest difference between the first and the last rank of a run.

    Returns:
        The (first, last) positions of each run of two or more that no other run contains.
    """
    runs: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(k for k, other in enumerate(ranks) if other - rank <= distance)
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs


def _draw(panel: Axes, ranks: pd.Series, distance: float, looks: dict[str, Mark]) -> None:
    """Draw the axis on top, labels left (the better half) and right, bars between; y counts lines downwards."""
    runs = cliques(list(ranks), distance)
    top = 0.6 + 0.5 * len(runs)  # the first line of labels
    half = (len(ranks) + 1) // 2
    for k, (method, rank) in enumerate(ranks.items()):
        left = k < half
        y = top + (k if left else len(ranks) - 1 - k)
        x, side = (1.0, "right") if left else (float(len(ranks)), "left")
        panel.plot([rank, rank, x], [0, y, y], color="0.4", linewidth=0.7, zorder=1)
        mark = looks[str(method)]
        panel.plot(rank, 0, marker=mark.marker, color=mark.colour, markeredgecolor="black", clip_on=False, zorder=3)
        text = f"{method}  {rank:.2f} " if left else f" {rank:.2f}  {method}"
        panel.text(x, y, text, ha=side, va="center", fontsize=7)
    for k, (first, last) in enumerate(runs):
        y = 0.45 + 0.5 * k
        panel.plot([ranks.iloc[first] - 0.03, ranks.iloc[last] + 0.03], [y, y], color="black", linewidth=2.5)
    shown = min(distance, len(ranks) - 1.0)
    panel.errorbar(1 + shown / 2, -1.3, xerr=shown / 2, color="black", capsize=2, linewidth=0.8)
    beyond = " (wider than the axis)" if distance > shown else ""
    panel.text(1 + shown / 2, -1.6, f"critical difference {distance:.2f}{beyond}", ha="center", fontsize=7)
    panel.set(xlim=(1, len(ranks)), ylim=(top + half - 0.5, -2.6), yticks=[])
    panel.set_xticks(range(1, len(ranks) + 1))
    panel.spines[["left", "bottom"]].set_visible(False)
    panel.spines["top"].set(visible=True, position=("data", 0))
    panel.xaxis.set_ticks_position("top")
    panel.grid(visible=False)
