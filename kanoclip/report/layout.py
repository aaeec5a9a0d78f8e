"""Arrange numbers in a table and format them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from kanoclip.report.cells import Cell, best_two
from kanoclip.report.formats import Style
from kanoclip.report.notes import MISSING, signs


@dataclass(frozen=True)
class Table:
    """Numbers and their arrangement in a table.

    Attributes:
        title: title of the table.
        what: description of the numbers, for the note below.
        cells: the numbers. Cells in the same row and column are separated by a slash.
        index: names of the row labels.
        row: returns the row of a cell, one label per name in `index`.
        column: returns the column of a cell, one label per header line.
        names: printed names of methods and datasets that differ from their own.
    """

    title: str
    what: str
    cells: list[Cell]
    index: tuple[str, ...]
    row: Callable[[Cell], tuple[str, ...]]
    column: Callable[[Cell], tuple[str, ...]]
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def printed(self) -> list[Cell]:
        """The cells with their printed names, and with the signs of marked rows."""
        named = self.names.get
        return [
            replace(
                cell,
                method=named(cell.method, cell.method) + signs(cell.marks),
                dataset=named(cell.dataset, cell.dataset),
            )
            for cell in self.cells
        ]

    def render(self, style: Style) -> pd.DataFrame:
        """Return the cells as text: percent with one decimal, as mean ± standard deviation if there are several seeds.

        "-" means no value, † a dataset seen in training, ‡ a doubtful printed number; `notes.MARKS` explains the signs
        after the names of rows.
        """
        cells = self.printed
        places = best_two(cells)
        rows = dict.fromkeys(self.row(cell) for cell in cells)
        texts: dict[tuple[str, ...], dict[tuple[str, ...], str]] = {}
        for cell in cells:
            column, row = texts.setdefault(self.column(cell), {}), self.row(cell)
            text = _text(cell, style, *places[cell.measure])
            column[row] = f"{column[row]} / {text}" if row in column else text
        data = [[column.get(row, MISSING) for column in texts.values()] for row in rows]
        return pd.DataFrame(data, _labels(list(rows), self.index), _labels(list(texts)))


def _labels(labels: list[tuple[str, ...]], names: tuple[str, ...] | None = None) -> pd.Index:
    """Return row or column labels, as a plain index if each has one part."""
    levels = pd.MultiIndex.from_tuples(labels, names=names)
    return levels if levels.nlevels > 1 else levels.get_level_values(0)


def _text(cell: Cell, style: Style, best: float | None, second: float | None) -> str:
    """Return the text of a cell."""
    if math.isnan(cell.mean):
        return MISSING
    text = f"{cell.mean:.1f}"
    if not math.isnan(cell.std):
        text += f" {style.plus_minus} {cell.std:.1f}"
    if cell.ranked and cell.shown == best:
        text = style.best.format(text)
    elif cell.ranked and cell.shown == second:
        text = style.second.format(text)
    return text + style.dagger * cell.seen + style.double_dagger * cell.doubtful
