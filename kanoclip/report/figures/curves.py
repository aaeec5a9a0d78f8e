"""Draw ROC and PRO curves of several methods on one dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kanoclip.metrics.curves import CURVES_COLUMNS
from kanoclip.report.registry import figure
from kanoclip.report.style import drawing, marks, save_reason
from kanoclip.tabular import read_csv

PANELS = {
    ("image", "roc"): ("image ROC", "true positive rate", 1.0),
    ("pixel", "roc"): ("pixel ROC", "true positive rate", 1.0),
    ("pixel", "pro"): ("PRO", "mean overlap of regions", 0.3),
}
POINTS = 601  # number of false positive rates at which curves are averaged


@figure(per="target", place=50)
def detection_curves(curves: Mapping[str, Sequence[Path]], out: Path) -> None:
    """ROC and PRO curves.

    ROC curves of images and pixels, and the per-region overlap (PRO) against the false positive rate up to 0.3, the
    limit of AUPRO. Each line is the mean over classes and seeds at equal false positive rates, so the area under it is
    the mean of their areas; grey: chance. Curves that no method has, such as pixel curves without masks, are left out.
    The curves are exact; at most 500 points of each are kept for drawing.

    Args:
        curves: for each method the curves.csv of each seed.
        out: the PNG; a PDF and an SVG are written beside it.

    Raises:
        InputError: a file is not a curves.csv.
    """
    frames = {method: [_read(path) for path in paths] for method, paths in curves.items()}
    drawn = [kind for kind in PANELS if any(_has(frame, *kind) for group in frames.values() for frame in group)]
    if not drawn:
        save_reason(out, "no curves: no labels, or images of one label only")
        return
    with drawing(out, 1, len(drawn), (max(2.3, 3.6 / len(drawn)), 2.6)) as (picture, (panels,)):
        for panel, (level, curve) in zip(panels, drawn, strict=True):
            title, label, limit = PANELS[level, curve]
            panel.set_title(title)
            rates = np.linspace(0, limit, POINTS)
            for method, mark in marks(list(frames)).items():
                means = [mean_curve(frame, level, curve, rates) for frame in frames[method]]
                known = [mean for mean in means if mean is not None]
                if known:
                    look = {"color": mark.colour, "linestyle": mark.line, "marker": mark.marker, "markevery": 0.1}
                    panel.plot(np.r_[0, rates], np.r_[0, np.mean(known, axis=0)], label=method, **look)
            panel.set(xlabel="false positive rate", ylabel=label, xlim=(0, limit), ylim=(0, 1))
            if curve == "roc":
                panel.plot([0, 1], [0, 1], color="0.6", linewidth=0.7, zorder=0)
        lines = {line.get_label(): line for panel in panels for line in panel.get_legend_handles_labels()[0]}
        picture.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=1 + len(drawn))


def _has(frame: pd.DataFrame, level: str, curve: str) -> bool:
    return bool(((frame["level"] == level) & (frame["curve"] == curve)).any())


def mean_curve(frame: pd.DataFrame, level: str, curve: str, rates: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the mean of one kind of curve over classes.

    Args:
        frame: a curves.csv.
        level: "image" or "pixel".
        curve: "roc" or "pro".
        rates: (R,) false positive rates, ascending.

    Returns:
        (R,) in 0..1; None without such a curve. At a rate where a curve jumps, its upper value is used.
    """
    chosen = frame[(frame["level"] == level) & (frame["curve"] == curve)]
    if chosen.empty:
        return None
    classes = [points for _, points in chosen.groupby("class_name")]
    # if several points share a rate, np.interp takes the last, which is the upper value of the jump
    return np.mean([np.interp(rates, points["x"], points["y"]) for points in classes], axis=0)


def _read(path: Path) -> pd.DataFrame:
    types = dict.fromkeys(CURVES_COLUMNS, str) | {"x": float, "y": float}
    return read_csv(path, CURVES_COLUMNS, "evaluate again", dtype=types)
