"""Bar chart of the class-mean AUROC of every method on every dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from kanoclip.metrics.registry import LEVELS
from kanoclip.report.figures.summary import draw_whiskers, read_aurocs, with_intervals
from kanoclip.report.registry import figure
from kanoclip.report.style import drawing, marks, save_reason

CHANCE = 50.0
LEGEND_ENTRY = 1.2  # width of a legend entry in inches
GROUP = 0.8  # width of a dataset's bars; the distance between datasets is 1


@figure(per="run", place=20)
def bars(metrics: Path, methods: Sequence[str], datasets: Sequence[str], out: Path) -> None:
    """AUROC by dataset.

    Image and pixel AUROC of each method in percent, the unweighted mean over the classes of each dataset. Bars start at
    chance, 50 %, so a bar below the line is worse than chance. Black whiskers with caps: standard deviation over
    seeds, for methods trained with several; grey whiskers: 95 % bootstrap interval over images, for methods that run
    once. The two measure different things and cannot be compared. Controls are left out. A missing bar is replaced by
    its reason; a level without any bar is left out.

    Args:
        metrics: the long-format metrics.csv.
        methods: one bar per group each, in this order.
        datasets: the groups, in this order.
        out: the PNG; a PDF and an SVG are written beside it.

    Raises:
        InputError: a method is not in the metrics.
    """
    cells = with_intervals(read_aurocs(metrics, methods))
    width = max(3.5, 1.0 + len(datasets) * (0.2 + 0.09 * len(methods)))
    levels = [level for level in LEVELS if cells.loc[cells["level"] == level, "value"].notna().any()]
    if not levels:
        save_reason(out, "no metrics: no labels, or images of one label only")
        return
    with drawing(out, len(levels), 1, (width, 1.9)) as (picture, panels):
        lowest = min(cells["low"].min(), cells["value"].min(), CHANCE - 5)
        for level, panel in zip(levels, panels[:, 0], strict=True):
            _draw(panel, cells[cells["level"] == level], methods, datasets)
            panel.set_ylim(lowest - 2, 100)
            panel.set_ylabel(f"{level} AUROC (%)")
        columns = max(2, int(width / LEGEND_ENTRY))
        picture.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=columns)


def _draw(panel: Axes, cells: pd.DataFrame, methods: Sequence[str], datasets: Sequence[str]) -> None:
    width = GROUP / len(methods)
    for k, (method, mark) in enumerate(marks(methods).items()):
        row = cells[cells["method"] == method].set_index("dataset").reindex(list(datasets))
        places = [place + (k + 0.5) * width - GROUP / 2 for place in range(len(datasets))]
        look: dict[str, Any] = {"color": mark.colour, "hatch": mark.hatch, "edgecolor": "black", "linewidth": 0.5}
        panel.bar(places, row["value"] - CHANCE, width, bottom=CHANCE, label=method, **look)
        draw_whiskers(panel, places, row)
    for place, dataset in enumerate(datasets):
        of_dataset = cells[cells["dataset"] == dataset]
        if of_dataset["value"].isna().all():
            reason = "not run" if of_dataset.empty else of_dataset["reason"].iloc[0]
            panel.text(place, CHANCE, f"{reason}\n", ha="center", va="bottom", color="0.35", fontsize=7)
    panel.axhline(CHANCE, color="black", linewidth=0.6)
    panel.set_xlim(-0.5, len(datasets) - 0.5)
    panel.annotate(" chance", (1, CHANCE), xycoords=("axes fraction", "data"), va="center", fontsize=6)
    panel.set_xticks(range(len(datasets)), datasets)
    panel.grid(visible=False, axis="x")
