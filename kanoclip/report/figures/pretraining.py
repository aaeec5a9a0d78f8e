"""Learning curves of the embedded backbone: losses, and results on the validation sets."""

from pathlib import Path

import pandas as pd
import seaborn
from matplotlib.axes import Axes

from kanoclip.report.figures.training import draw_lines, read_log
from kanoclip.report.registry import figure
from kanoclip.report.style import drawing
from kanoclip.types import InputError

SETS = {
    "held_out_kinds": "held-out kinds",
    "held_out_defects": "held-out defects",
    "seen": "seen kinds and defects",
    "held_out_composites": "held-out composites",
}
MEASURES = {
    "image_class_token": "image AUROC, class token",
    "image_map_maximum": "image AUROC, map maximum",
    "pixel_original": "pixel AUROC, original stream",
    "pixel_local": "pixel AUROC, V-V stream",
    "kind_top1": "kind, top 1",
}


@figure()
def pretraining_curves(train: Path, validation: Path, out: Path) -> None:
    """Pretraining of the embedded backbone.

    Losses and the results on each validation set against the training step. Losses are running means over one thirtieth
    of the training; vertical lines mark changes of the image size.

    Args:
        train: train.csv of `kanoclip pretrain`.
        validation: its validation.csv.
        out: the PNG; a PDF and an SVG are written beside it.

    Raises:
        InputError: one of the files lacks its columns.
    """
    losses, results = read_log(train), _read_validation(validation)
    sets = [name for name in SETS if (results["set"] == name).any()]
    with drawing(out, 1, 1 + len(sets), (2.6, 2.6)) as (picture, (panels,)):
        draw_lines(panels[0], losses[losses["family"] == "loss_"], "loss", "linear")
        panels[0].legend(title=None, loc="upper right")
        panels[0].set_title("training")
        _mark_sizes(panels[0], pd.read_csv(train))
        for panel, name in zip(panels[1:], sets, strict=True):
            looks = {"hue_order": MEASURES.values(), "style_order": MEASURES.values(), "palette": "colorblind"}
            chosen = results[results["set"] == name]
            seaborn.lineplot(chosen, x="step", y="percent", hue="measure", style="measure", ax=panel, **looks)
            panel.set(title=SETS[name], ylim=(min(40, results["percent"].min()), 100))
        handles, labels = panels[1].get_legend_handles_labels()
        picture.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        for panel in panels[1:]:
            panel.get_legend().remove()


def _read_validation(path: Path) -> pd.DataFrame:
    """Return a validation.csv in long form: step, set, measure, percent."""
    log = pd.read_csv(path)
    known = {f"{name}_{key}": (name, label) for name in SETS for key, label in MEASURES.items()}
    columns = [column for column in log.columns if column in known]
    if "step" not in log or not columns:
        raise InputError(f"{path}: expected the columns step, {next(iter(known))}, ..., found {','.join(log.columns)}")
    long = log.melt(id_vars="step", value_vars=columns)
    long[["set", "measure"]] = [known[column] for column in long["variable"]]
    return long.assign(percent=100 * long["value"])


def _mark_sizes(panel: Axes, log: pd.DataFrame) -> None:
    """Draw a vertical line at each change of the image size."""
    for step, size in log.drop_duplicates("size")[["step", "size"]].iloc[1:].itertuples(index=False):
        panel.axvline(step, color="0.5", linewidth=0.8)
        place = panel.get_xaxis_transform()  # x in steps, y as a share of the panel
        panel.text(step, 1, f"{size} px ", transform=place, rotation=90, ha="right", va="top", fontsize=6)
