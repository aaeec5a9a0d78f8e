"""Training curves: the terms of the loss, and the other quantities in train.csv."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes

from kanoclip.report.registry import figure
from kanoclip.report.style import drawing
from kanoclip.tabular import read_csv
from kanoclip.types import InputError

# prefix of the column names: title of the panel and scale of its axis
LOSS = "loss_"
FAMILIES = {
    LOSS: ("loss", "linear"),
    "grad_norm_": ("gradient norm", "log"),
    "lr_": ("learning rate", "linear"),
    "knowledge_active": ("share of active hinges", "linear"),
}


@figure(per="run", place=70, category="Diagnostics")
def training_curves(logs: Mapping[str, Sequence[Path]], out: Path) -> None:
    """Training curves.

    One row per method and auxiliary dataset: the terms of the loss and, if train.csv has them, the gradient norm and
    the learning rate of each parameter group and the share of images with an active knowledge hinge, against the
    training step. Constant quantities are left out, such as a constant learning rate or hinges that are never active.
    Lines are running means over one thirtieth of the training; bands show the standard deviation over seeds. The last
    epoch is scored: nothing is selected on a target.

    Args:
        logs: for each method the train.csv of each seed.
        out: the PNG; a PDF and an SVG are written beside it.

    Raises:
        InputError: a log has no losses.
    """
    frames = {method: _moving(pd.concat(map(read_log, paths), ignore_index=True)) for method, paths in logs.items()}
    families = [name for name in FAMILIES if any((frame["family"] == name).any() for frame in frames.values())]
    with drawing(out, len(frames), len(families), (3.7, 2.2)) as (_, panels):
        for row, (method, frame) in zip(panels, frames.items(), strict=True):
            for panel, family in zip(row, families, strict=True):
                draw_lines(panel, frame[frame["family"] == family], *FAMILIES[family])
            row[0].set_title(method, loc="left")


def read_log(path: Path) -> pd.DataFrame:
    """Return a train.csv in long form, as running means: family (a key of FAMILIES), part, step, value.

    Raises:
        InputError: there is no column of losses, or none of steps.
    """
    log = read_csv(path, None, "train again")
    if "step" not in log or log.filter(regex="^loss_").empty:
        raise InputError(f"{path}: expected the columns step and loss_..., found {','.join(log.columns)}")
    window = max(1, len(log) // 30)
    columns = [(family, column) for family in FAMILIES for column in log.columns if column.startswith(family)]
    parts = []
    for family, column in columns:
        values = log[column].dropna()  # a phase has no value for the parts of the others
        means = values.rolling(window, min_periods=1).mean()
        about = {"family": family, "part": column.removeprefix(family), "step": log["step"][values.index]}
        parts.append(pd.DataFrame({**about, "value": means}))
    return pd.concat(parts, ignore_index=True)


def _moving(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a log in long form without the families whose parts are all constant; losses are always kept."""
    spread = frame.groupby(["family", "part"])["value"].agg(lambda values: np.ptp(values) > 1e-6 * np.abs(values).max())
    moving = spread.groupby(level="family").any()
    return frame[frame["family"].map(moving) | (frame["family"] == LOSS)]


def draw_lines(panel: Axes, lines: pd.DataFrame, label: str, scale: str) -> None:
    """Draw one line per part, distinguished by colour and dashes, with a band of the standard deviation over seeds."""
    if lines.empty:
        panel.set_axis_off()
        return
    several = lines["part"].nunique() > 1  # for a single part the axis label is enough
    looks = {"palette": "colorblind", "hue": "part", "style": "part", "legend": several}
    seaborn.lineplot(lines, x="step", y="value", errorbar="sd", ax=panel, **looks)
    panel.set(ylabel=label, yscale=scale)
    if scale == "log":  # powers of ten are formulas by default, and names are never parsed as formulas
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if several:
        panel.legend(title=None, loc="upper left", bbox_to_anchor=(1, 1))
