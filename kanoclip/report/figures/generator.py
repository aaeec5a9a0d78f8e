"""Draw an overview of the generator's synthetic images: every kind, normal and with some of its defects."""

import io
import math
from collections import Counter
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from kanoclip.datasets.synthetic import (
    AUXILIARY_KINDS,
    DEFECTS,
    HELD_OUT_DEFECTS,
    HELD_OUT_KINDS,
    KINDS,
    defects_of,
    display_name,
    render,
)
from kanoclip.files import whole
from kanoclip.report.registry import figure
from kanoclip.report.style import STYLE

EVERY_KIND = (*KINDS, *AUXILIARY_KINDS)
UNSEEN_KINDS = {*HELD_OUT_KINDS, *AUXILIARY_KINDS}  # unseen in pretraining
SHOWN = 3  # defects of each kind
BLOCKS = 2  # blocks of rows side by side
PANEL, ROW, LABEL = 0.62, 0.72, 0.8  # in inches: side of an image, height of a row with its names, width of the labels
LABEL_WIDTH = 12  # characters per line
DPI = 125
COLOURS = 256  # in the PNG's palette, which takes a third of the bytes of full colour


@figure()
def generator(out: Path, seed: int = 0) -> None:
    """Drawn images.

    The generator's synthetic images, one row per kind: a normal image, then the same image with up to three defects and
    their masks outlined. A star marks kinds and defects that the embedded backbone has not seen.

    Args:
        out: the PNG.
        seed: seed of the images.
    """
    rows = math.ceil(len(EVERY_KIND) / BLOCKS)
    block_width = LABEL + (1 + SHOWN) * PANEL
    width, height = BLOCKS * block_width, rows * ROW
    with matplotlib.rc_context(fname=STYLE, rc={"axes.grid": False}):
        picture = Figure(figsize=(width, height))
        blocks: list[NDArray[Any]] = []
        for block in range(BLOCKS):
            place = {"left": (block * block_width + LABEL) / width, "right": (block + 1) / BLOCKS}
            place |= {"top": 1, "bottom": (ROW - PANEL) / height, "hspace": ROW / PANEL - 1, "wspace": 0.04}
            blocks.append(picture.add_gridspec(rows, 1 + SHOWN, **place).subplots(squeeze=False))
        panels: NDArray[Any] = np.concatenate(blocks)
        for panel in panels.flat:
            panel.set_axis_off()
        for row, (kind, defects) in zip(panels, spread_defects().items(), strict=False):
            name = fill(_label(display_name(kind), kind in UNSEEN_KINDS), LABEL_WIDTH)
            row[0].text(-0.1, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontsize=7)
            for panel, defect in zip(row, [None, *defects], strict=False):
                _draw(panel, kind, defect, seed)
    _save(picture, out)


def spread_defects() -> dict[str, list[str]]:
    """Return the defects to show for each kind: those shown least so far, so that each defect appears."""
    shown: Counter[str] = Counter()
    chosen = {}
    for kind in EVERY_KIND:
        chosen[kind] = sorted(defects_of(kind), key=lambda defect: (shown[defect], list(DEFECTS).index(defect)))[:SHOWN]
        shown.update(chosen[kind])
    return chosen


def _draw(panel: Axes, kind: str, defect: str | None, seed: int) -> None:
    sample = render(kind, defect, seed)
    panel.imshow(sample.image)
    if defect is not None:
        panel.contour(sample.mask, levels=[0.5], colors="black", linewidths=1.0)
        panel.contour(sample.mask, levels=[0.5], colors="white", linewidths=0.5)
        name = _label(defect.replace("_", " "), defect in HELD_OUT_DEFECTS)
        panel.text(0.5, -0.02, name, transform=panel.transAxes, ha="center", va="top", fontsize=5)


def _label(name: str, held_out: bool) -> str:
    return f"{name} *" if held_out else name


def _save(picture: Figure, out: Path) -> None:
    """Write the picture as a PNG with a palette."""
    buffer = io.BytesIO()
    picture.savefig(buffer, dpi=DPI)
    with whole(out) as temporary, Image.open(buffer, formats=("PNG",)) as image:
        image.convert("RGB").quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE).save(temporary, optimize=True)
