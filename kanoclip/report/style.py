"""The look of every figure: one style file, marks that can be told apart without colour, three formats."""

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

# figures of the same data are the same bytes: no dates, no program versions
FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    ".svg": {"Creator": None, "Date": None},
}
OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {"pil_kwargs": {"compress_level": 4}}
}  # 4 % larger than at 6, in less than half the time

# texts in a PNG, for the page
NOTHING = "Nothing"  # why the figure shows nothing
PICTURES = "Pictures"  # JSON: left, top, width, height of its photographs, each a share of the figure's width or height

# seaborn's palette "colorblind", the palest last
COLOURS = [
    to_rgb(f"#{code}")
    for code in ["0173b2", "de8f05", "029e73", "d55e00", "cc78bc", "ca9161", "56b4e9", "949494", "fbafe4", "ece133"]
]
# nine of each, so that colour and shape come together again only after ninety
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "||||", "oooo", "++++")
LINES: tuple[Any, ...] = (
    "-", "--", ":", "-.", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)), (0, (6, 2, 1, 2, 1, 2)),
)  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """How one of several methods is drawn in every figure: never told apart by colour alone."""

    colour: tuple[float, float, float]
    marker: str
    hatch: str
    line: Any


def marks(names: Sequence[str]) -> dict[str, Mark]:
    """Return a marker for each name, by its position."""
    return {
        name: Mark(COLOURS[k % len(COLOURS)], MARKERS[k % 9], HATCHES[k % 9], LINES[k % 9])
        for k, name in enumerate(names)
    }


@contextmanager
def drawing(out: Path, rows: int, columns: int, panel: tuple[float, float]) -> Iterator[tuple[Figure, NDArray[Any]]]:
    """Give a figure with empty panels; write it if the block ends without an error.

    Args:
        out: the PNG; a PDF and an SVG are written beside it.
        rows: of panels.
        columns: of panels.
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

    The panels are laid out once, for the PNG; the other formats take their places from it. Names are drawn as they are
    written: a dollar sign in one begins no formula, which may be no valid one.

    Args:
        figure: the figure.
        out: the PNG; a PDF and an SVG are written beside it.
        notes: what the PNG tells the page of itself, under `NOTHING` or `PICTURES`.
    """
    for text in figure.findobj(Text):
        if r"\mathdefault" not in text.get_text():  # the powers of a logarithmic axis
            text.set_parse_math(False)
    with matplotlib.rc_context(fname=STYLE):
        for suffix, metadata in FORMATS.items():
            own = metadata | dict(notes or {}) if suffix == ".png" else metadata
            with whole(out.with_suffix(suffix)) as temporary:
                figure.savefig(temporary, metadata=own, **OPTIONS.get(suffix, {}))
            figure.set_layout_engine("none")


def save_reason(out: Path, reason: str) -> None:
    """Write a figure that only says why there is nothing to draw; the page leaves it out."""
    figure = Figure(figsize=(4, 1.5))
    say(figure.subplots(), reason)
    save(figure, out, {NOTHING: reason})


def say(panel: Axes, text: str) -> None:
    """Leave a panel empty but for the reason why there is nothing to draw."""
    panel.set_axis_off()
    panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", color="0.35", wrap=True)
