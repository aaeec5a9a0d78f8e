"""The style of all figures: one style file, marks that differ without colour, three output formats."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from kanoclip.files import whole

STYLE = Path(__file__).with_name("style.mplstyle")

# without dates and program versions, the same data gives the same bytes
FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    ".svg": {"Creator": None, "Date": None},
}
OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {"pil_kwargs": {"compress_level": 4}}
}  # 4 % larger than at 6, in less than half the time

# texts in a PNG, for the page
NOTHING = "Nothing"  # why the figure is empty
PICTURES = "Pictures"  # JSON: left, top, width, height of its photographs, each a share of the figure's width or height

# seaborn's palette "colorblind", the palest last
COLOURS = [
    to_rgb(f"#{code}")
    for code in ["0173b2", "de8f05", "029e73", "d55e00", "cc78bc", "ca9161", "56b4e9", "949494", "fbafe4", "ece133"]
]
# 9 of each, so that a combination with one of the 10 colours repeats only after 90
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "||||", "oooo", "++++")
LINES: tuple[Any, ...] = (
    "-", "--", ":", "-.", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)), (0, (6, 2, 1, 2, 1, 2)),
)  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """The look of a method in every figure, never distinguished by colour alone."""

    colour: tuple[float, float, float]
    marker: str
    hatch: str
    line: Any


def marks(names: Sequence[str]) -> dict[str, Mark]:
    """Return a mark for each name, by its position."""
    return {
        name: Mark(COLOURS[k % len(COLOURS)], MARKERS[k % 9], HATCHES[k % 9], LINES[k % 9])
        for k, name in enumerate(names)
    }


@contextmanager
def drawing(out: Path, rows: int, columns: int, panel: tuple[float, float]) -> Iterator[tuple[Figure, NDArray[Any]]]:
    """Yield a figure with empty panels; write it if the block ends without an error.

    Args:
        out: the PNG; a PDF and an SVG are written beside it.
        rows: number of rows of panels.
        columns: number of columns of panels.
        panel: width and height of a panel in inches, with its labels.

    Yields:
        The figure and its (rows, columns) axes.
    """
    with matplotlib.rc_context(fname=STYLE):
        figure = Figure(figsize=(columns * panel[0], rows * panel[1]), layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False)
    save(figure, out)


def save(figure: Figure, out: Path, notes: Mapping[str, str] | None = None) -> None:
    """Write the figure as PNG, PDF and SVG, each whole or not at all.

    The layout is computed once, for the PNG, and reused for the other formats. Names are drawn literally: a dollar
    sign does not start a formula.

    Args:
        figure: the figure.
        out: the PNG; a PDF and an SVG are written beside it.
        notes: metadata of the PNG for the page, under `NOTHING` or `PICTURES`.
    """
    for text in figure.findobj(Text):
        if r"\mathdefault" not in text.get_text():  # except the powers on a logarithmic axis
            text.set_parse_math(False)
    with matplotlib.rc_context(fname=STYLE):
        for suffix, metadata in FORMATS.items():
            own = metadata | dict(notes or {}) if suffix == ".png" else metadata
            with whole(out.with_suffix(suffix)) as temporary:
                figure.savefig(temporary, metadata=own, **OPTIONS.get(suffix, {}))
            figure.set_layout_engine("none")


def save_reason(out: Path, reason: str) -> None:
    """Write a figure that only states why there is nothing to draw; the page leaves it out."""
    figure = Figure(figsize=(4, 1.5))
    say(figure.subplots(), reason)
    save(figure, out, {NOTHING: reason})


def say(panel: Axes, text: str) -> None:
    """Write into an otherwise empty panel why there is nothing to draw."""
    panel.set_axis_off()
    panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", color="0.35", wrap=True)
