"""Draw histograms of normal and anomalous image scores, with the F1-max threshold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from kanoclip.metrics.classification import f1_max, f1_max_threshold
from kanoclip.metrics.ranking import UndefinedMetricError, rank
from kanoclip.metrics.scores_file import scored_index
from kanoclip.report.registry import figure
from kanoclip.report.style import COLOURS, drawing

BINS = 20
TITLE_SIZE = 6.5


@figure(per="target", place=60, category="Diagnostics")
def histograms(index: Path, scores: Sequence[Path], out: Path) -> None:
    """Image scores.

    Image scores of normal (filled) and anomalous (hatched) images, one row per class and one column per method, with
    the first seed; unlabelled images are grey. Each group sums to 100 %. Dashed: the threshold with the highest F1 on
    these images, given above the panel with its F1, which is an upper bound because the threshold uses the labels.

    Args:
        index: index.csv of the dataset.
        scores: scores.h5 of each method on this dataset.
        out: the PNG; a PDF and an SVG are written beside it.

    Raises:
        InputError: scores and index do not list the same images.
    """
    columns = {}
    for path in scores:
        with scored_index(path, index) as (rows, file):
            columns[str(file.attrs["method"])] = file["image_score"][:]
    classes = rows.groupby("class_name", sort=False)
    with drawing(out, classes.ngroups, len(columns), (1.8, 1.4)) as (picture, panels):
        for row, (name, members) in zip(panels, classes, strict=True):
            for panel, (method, values) in zip(row, columns.items(), strict=True):
                title = _draw(panel, members["label"].to_numpy(), values[members.index])
                panel.set_title(f"{method}, {name}\n{title}", fontsize=TITLE_SIZE)
        picture.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        for panel in panels[-1]:
            panel.set_xlabel("image score")
        picture.supylabel("images (%)", fontsize=8)


def _draw(panel: Axes, labels: NDArray[np.integer], scores: NDArray[np.floating]) -> str:
    """Draw one panel and return its title."""
    edges = list(np.histogram_bin_edges(scores, BINS))
    looks: dict[str, tuple[int, dict[str, Any]]] = {
        "normal": (0, {"facecolor": COLOURS[6], "edgecolor": "none"}),
        "anomalous": (1, {"facecolor": "none", "edgecolor": COLOURS[3], "hatch": "////", "linewidth": 0.9}),
        "unlabelled": (-1, {"facecolor": COLOURS[7], "edgecolor": "none"}),
    }
    for name, (label, look) in looks.items():
        own = scores[labels == label]
        if own.size:
            panel.hist(own, edges, weights=np.full(own.size, 100 / own.size), label=name, histtype="stepfilled", **look)
    if (labels < 0).all():
        return ""
    try:
        ranking = rank(scores[labels == 1], scores[labels == 0])
    except UndefinedMetricError as reason:
        return str(reason)
    threshold = f1_max_threshold(ranking)
    panel.axvline(threshold, color="black", linestyle="--", linewidth=0.9, label="threshold of the highest F1")
    return f"F1 {f1_max(ranking):.2f} at {threshold:.3g}"
