"""Read published numbers, config/published/*.csv. Tables show them beside ours and never rank them."""

from collections.abc import Sequence
from pathlib import Path

from kanoclip.metrics.registry import LEVELS, MEAN
from kanoclip.report.cells import KANOCLIP_PAPER, OWN_PAPER, Cell
from kanoclip.tabular import read_csv
from kanoclip.types import InputError, unknown_name

KEYS = ["method", "dataset", "level", "metric", "source_kind"]
COLUMNS = ["method", "title", "dataset", "level", "metric", "value", "source_kind", "source", "doubtful", "note"]
KINDS = {"kanoclip_paper": KANOCLIP_PAPER, "own_paper": OWN_PAPER}
TRUTH = {"yes": True, "no": False}


def read_published(paths: Sequence[Path]) -> list[Cell]:
    """Read files of printed numbers.

    Each line is one number: method (its row), title (of that row, as printed), dataset, level, metric, value (in
    percent, as printed), source_kind (own_paper or kanoclip_paper), source (paper, version, table), doubtful (yes or
    no) and note (why it is doubtful, or another remark).

    Raises:
        InputError: a line is invalid, or a number is given twice.
    """
    cells: dict[tuple[str, ...], Cell] = {}
    for path in paths:
        types = dict.fromkeys(COLUMNS, str) | {"value": float}
        frame = read_csv(path, COLUMNS, "correct the file", keep_default_na=False, dtype=types)
        for line, row in enumerate(frame.to_dict("records"), start=2):
            where = f"{path}, line {line}"
            key = tuple(row[name] for name in KEYS)
            if key in cells:
                raise InputError(f"{where}: {' '.join(key)} is given twice; keep one")
            cells[key] = _cell(row, where)
    return list(cells.values())


def _cell(row: dict, where: str) -> Cell:
    for column, known in (("level", LEVELS), ("source_kind", KINDS), ("doubtful", TRUTH)):
        if row[column] not in known:
            raise InputError(f"{where}: {unknown_name(column, row[column], known)}")
    if not 0 <= row["value"] <= 100:
        raise InputError(f"{where}: expected a value in percent, found {row['value']}")
    for column in ("title", "source"):
        if not row[column]:
            raise InputError(f"{where}: the {column} is empty; write it as printed")
    if TRUTH[row["doubtful"]] and not row["note"]:
        raise InputError(f"{where}: doubtful without a note; say why")
    return Cell(
        row["method"],
        row["dataset"],
        MEAN,
        row["level"],
        row["metric"],
        mean=row["value"],
        kind=KINDS[row["source_kind"]],
        source=row["source"],
        title=row["title"],
        doubtful=TRUTH[row["doubtful"]],
        note=row["note"],
    )
