"""Figures from index.csv, scores.h5 and train.csv: qualitative grids, a teaser, training curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import h5py
import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kanoclip.files import whole
from kanoclip.metrics.scores import scored_index
from kanoclip.report.grid import STYLE, draw_grid, read_samples

# figures of the same data are the same bytes: no dates, no program versions
FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    ".svg": {"Creator": None, "Date": None},
}
TITLE_WIDTH = 20  # characters
TEASER_PLACES = ("anomalous, highest", "anomalous, median")


def qualitative(index: Path, scores: Sequence[Path], out: Path) -> None:
    """Images, masks and the maps of several methods on one dataset.

    The columns are the anomalous images with the highest, the median and the lowest image score and the normal image
    with the median one, all by the method of the first file. Each method has one colour scale, from the first to the
    last percentile of the values shown; the number on a map is its image score.

    Args:
        index: index.csv of the dataset.
        scores: scores.h5 of each method on this dataset.
        out: the PNG; a PDF and an SVG are written beside it.

    Raises:
        InputError: scores and index do not list the same images.
    """
    with scored_index(scores[0], index) as (rows, file):
        chosen = _spread(rows["label"].to_numpy(), file["image_score"][:])
        names = rows["class_name"]
    titles = {row: f"{fill(names[row], TITLE_WIDTH)}\n{place}" for row, place in chosen.items()}
    _save(draw_grid(read_samples(index, scores, titles), [_attribute(path, "method") for path in scores]), out)


def teaser(pairs: Sequence[tuple[Path, Path]], out: Path) -> None:
    """Images, masks and the maps of one method on several datasets.

    The columns are the anomalous images with the highest and the median image score of each dataset. Each dataset has
    one colour scale.

    Args:
        pairs: (index.csv, scores.h5) of each dataset, the scores all by the same method.
        out: the PNG; a PDF and an SVG are written beside it.

    Raises:
        InputError: scores and index do not list the same images.
    """
    samples = []
    for index, scores in pairs:
        with scored_index(scores, index) as (rows, file):
            places = _spread(rows["label"].to_numpy(), file["image_score"][:])
            names = rows["class_name"]
        dataset = _attribute(scores, "dataset")
        chosen = [row for row, place in places.items() if place in TEASER_PLACES]
        samples += read_samples(index, [scores], {row: f"{dataset}\n{fill(names[row], TITLE_WIDTH)}" for row in chosen})
    _save(draw_grid(samples, [_attribute(pairs[0][1], "method")]), out)


def training_curves(logs: Mapping[str, Sequence[Path]], out: Path) -> None:
    """Each part of the loss against the step, a panel a method.

    Lines are running means over one thirtieth of the training; the band is the standard deviation over seeds.

    Args:
        logs: for each method the train.csv of each seed.
        out: the PNG; a PDF and an SVG are written beside it.
    """
    with matplotlib.rc_context(fname=STYLE):
        figure = Figure(figsize=(4.2 * len(logs), 2.4), layout="constrained")
        panels = figure.subplots(1, len(logs), squeeze=False)[0]
        for panel, (method, paths) in zip(panels, logs.items(), strict=True):
            long = pd.concat([_running_means(pd.read_csv(path)) for path in paths], ignore_index=True)
            colours = {"palette": "colorblind", "hue": "part", "style": "part"}
            seaborn.lineplot(long, x="step", y="loss", errorbar="sd", ax=panel, **colours)
            panel.set_title(method)
            panel.legend(title=None, loc="upper left", bbox_to_anchor=(1, 1))
    _save(figure, out)


def _running_means(log: pd.DataFrame) -> pd.DataFrame:
    """A train.csv in long form: step, part, loss."""
    parts = log.filter(regex="^loss_").rename(columns=lambda column: column.removeprefix("loss_"))
    smooth = parts.rolling(max(1, len(log) // 30), min_periods=1).mean()
    return smooth.assign(step=log["step"]).melt(id_vars="step", var_name="part", value_name="loss")


def _attribute(scores: Path, name: str) -> str:
    with h5py.File(scores, "r") as file:
        return str(file.attrs[name])


def _spread(labels: NDArray[np.integer], image_score: NDArray[np.floating]) -> dict[int, str]:
    """Rows that show what a method can and cannot do, in the order of the columns, and which place each has."""
    order = np.argsort(image_score, kind="stable")[::-1]
    anomalous, normal = order[labels[order] == 1], order[labels[order] == 0]
    places: dict[int, str] = {}
    for row, place in ((0, "highest"), (len(anomalous) // 2, "median"), (-1, "lowest")):
        if anomalous.size:
            places.setdefault(int(anomalous[row]), f"anomalous, {place}")
    if normal.size:
        places[int(normal[normal.size // 2])] = "normal, median"
    return places


def _save(figure: Figure, out: Path) -> None:
    """Write the figure as PNG, PDF and SVG, each whole or not at all."""
    with matplotlib.rc_context(fname=STYLE):
        for suffix, metadata in FORMATS.items():
            with whole(out.with_suffix(suffix)) as temporary:
                figure.savefig(temporary, metadata=metadata)
