"""The notes below a table: the protocol of its numbers, and the meaning of its marks."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from kanoclip.report.cells import AVERAGE, HERE, NOT_RUN, Cell

Key = TypeVar("Key", bound=Hashable)

TINY_BACKBONE = "kanoclip-tiny"
TINY_NOTE = "Embedded tiny backbone: not results of the paper."
SEEN_NOTE = "† seen in training: not zero-shot."
MARKS = {
    "transductive": ("§", "transductive: an image is scored with the help of the target's other images."),
    "extension": ("¶", "extension: not an anomaly detector in its own paper."),
}
"""The marks of rows: the sign after their name, and its meaning."""
MISSING = "-"


def signs(marks: Iterable[str]) -> str:
    """Return the signs after the name of a row with these marks."""
    return "".join(MARKS[mark][0] for mark in marks)


def mark_notes(marks: Iterable[str]) -> list[str]:
    """Return one line per mark, in the order of `MARKS`."""
    used = set(marks)
    return [f"{sign} {meaning}" for mark, (sign, meaning) in MARKS.items() if mark in used]


def legend(cells: Sequence[Cell], what: str, facts: Sequence[str]) -> list[str]:
    """Return the lines below a table.

    Args:
        cells: every number of the table.
        what: description of the numbers, e.g. "AUROC in percent, unweighted mean over classes".
        facts: the part of the protocol that is not in the cells; see `Run.facts`.
    """
    here = [cell for cell in cells if cell.kind == HERE]
    run = [cell for cell in here if cell.seeds and cell.dataset != AVERAGE]
    return [
        _protocol(run, facts),
        _reading(cells, what),
        *([SEEN_NOTE] if any(cell.seen for cell in cells) else []),
        *mark_notes(mark for cell in cells for mark in cell.marks),
        *_averages(here),
        *_missing(here),
        *_printed(cells),
        *([TINY_NOTE] if any(is_tiny(cell) for cell in run) else []),
    ]


def is_tiny(cell: Cell) -> bool:
    """Return whether a number was made with the embedded backbone."""
    return cell.backbone.startswith(TINY_BACKBONE)


def _protocol(run: Sequence[Cell], facts: Sequence[str]) -> str:
    backbones = dict.fromkeys(cell.backbone for cell in run)
    seeds = sorted({seed for cell in run for seed in cell.seeds})
    parts = [
        _auxiliaries(run),
        f"backbone {', '.join(backbones)}",
        *facts,
        f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}",
    ]
    return f"Protocol: {'; '.join(parts)}."


def _auxiliaries(run: Sequence[Cell]) -> str:
    """Describe the auxiliary dataset of the trained methods, per target if it differs."""
    targets = _grouped((cell for cell in run if cell.auxiliary != "none"), lambda c: c.auxiliary, lambda c: c.dataset)
    if not targets:
        return "no auxiliary dataset"
    if len(targets) == 1:
        return f"auxiliary dataset {next(iter(targets))}"
    return "auxiliary dataset " + ", ".join(f"{name} (for {', '.join(those)})" for name, those in targets.items())


def _reading(cells: Sequence[Cell], what: str) -> str:
    several = any(not math.isnan(cell.std) for cell in cells)
    unranked = list(dict.fromkeys(cell.method for cell in cells if cell.control))
    unranked += ["seen datasets"] * any(cell.seen for cell in cells)
    unranked += ["printed numbers"] * any(cell.kind != HERE for cell in cells)
    return (
        what
        + (", mean ± standard deviation over seeds" if several else "")
        + ". Best bold, second underlined"
        + (f"; not ranked: {', '.join(unranked)}." if unranked else ".")
    )


def _averages(here: Sequence[Cell]) -> list[str]:
    partial = [c for c in here if c.dataset == AVERAGE and c.note and not math.isnan(c.mean)]
    levels = _grouped(partial, lambda c: c.note, lambda c: c.level)
    return [f"Average, {', '.join(those)} level: {note}; the others have no value." for note, those in levels.items()]


def _missing(here: Sequence[Cell]) -> list[str]:
    def place(cell: Cell) -> str:
        if cell.note == NOT_RUN:
            return f"{cell.method} on {cell.dataset}"
        return f"{cell.dataset} {cell.level}"

    reasons = _grouped((c for c in here if math.isnan(c.mean) and c.note), lambda c: c.note, place)
    return [f"Missing ({MISSING}), {reason}: {', '.join(those)}." for reason, those in reasons.items()]


def _printed(cells: Sequence[Cell]) -> list[str]:
    printed = [cell for cell in cells if cell.kind != HERE and cell.source]
    doubtful = [cell for cell in printed if cell.doubtful]
    sources = _grouped(printed, lambda c: c.kind, lambda c: c.source)
    levels = _grouped(doubtful, _doubt, lambda c: c.level)
    doubts = _grouped(
        doubtful, lambda c: (c.note, c.kind), lambda c: f"{c.method} on {c.dataset}, {' and '.join(levels[_doubt(c)])}"
    )
    return [
        *(
            f"Source {kind}: as printed, under its own protocol, in {'; '.join(those)}."
            for kind, those in sources.items()
        ),
        *(f"‡ doubtful ({kind}), {note}: {'; '.join(those)}." for (note, kind), those in doubts.items()),
    ]


def _doubt(cell: Cell) -> tuple[str, ...]:
    return cell.note, cell.kind, cell.method, cell.dataset


def _grouped(cells: Iterable[Cell], by: Callable[[Cell], Key], what: Callable[[Cell], str]) -> dict[Key, list[str]]:
    """Return the distinct descriptions of the cells of each group, in order."""
    groups: dict[Key, dict[str, None]] = {}
    for cell in cells:
        groups.setdefault(by(cell), {})[what(cell)] = None
    return {key: list(those) for key, those in groups.items()}
