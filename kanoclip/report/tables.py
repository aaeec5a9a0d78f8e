"""Make tables from metrics.csv files: the complete long-format table, and the tables to read."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import pandas as pd

from kanoclip.files import whole
from kanoclip.metrics.registry import LEVELS, MEAN, METRICS
from kanoclip.report import formats
from kanoclip.report.cells import AVERAGE, HERE, NOT_RUN, Cell, averages, cells_of, check_names
from kanoclip.report.layout import Table
from kanoclip.report.metrics import collect
from kanoclip.report.notes import TINY_NOTE, is_tiny, legend
from kanoclip.report.published import KINDS, read_published
from kanoclip.run import Run
from kanoclip.types import unknown_name

MAIN_METRICS = (("image", "auroc"), ("pixel", "auroc"))
MEANS = "AUROC in percent, unweighted mean over classes"
PAIRS = f"Image {MEANS.replace('AUROC', 'AUROC / pixel AUROC')}"


Marks = Mapping[str, tuple[str, ...]]


def main_table(
    frame: pd.DataFrame,
    methods: Sequence[str],
    datasets: Sequence[str],
    controls: Collection[str],
    marks: Marks | None = None,
) -> Table:
    """Return a table with one row per method, and image and pixel AUROC columns per dataset and for the average.

    Args:
        frame: long metrics, as `collect` returns them; the rows of class means are used.
        methods: the rows, in this order; a method with several backbones has a row for each.
        datasets: the columns, in this order.
        controls: the methods that are not ranked.
        marks: marks of each marked row.

    Raises:
        InputError: a method or dataset is not in the metrics, or a cell mixes several auxiliary datasets.
    """
    cells = _with_absent(_class_means(frame, methods, datasets, controls, marks), datasets)
    return Table(
        "Main table", MEANS, cells, ("method",), lambda cell: (cell.method,), lambda cell: (cell.dataset, cell.label)
    )


def _comparison(title: str, here: Sequence[Cell], published: Sequence[Cell], titles: dict[str, str]) -> Table:
    """Return one block per method: numbers run here, then printed ones; image / pixel AUROC per dataset.

    Args:
        title: title of the table.
        here: class means, and their average if it is shown.
        published: printed numbers of any method, dataset and metric.
        titles: titles of the datasets, in the order of the columns.
    """
    datasets = [*titles, *([AVERAGE] if any(cell.dataset == AVERAGE for cell in here) else [])]
    marks = {cell.method: cell.marks for cell in here}
    printed = [
        replace(cell, marks=marks.get(cell.method, ()))
        for cell in published
        if cell.dataset in titles and (cell.level, cell.metric) in MAIN_METRICS
    ]
    blocks: list[Cell] = []
    for method in dict.fromkeys(cell.method for cell in here):
        for kind in (HERE, *KINDS.values()):
            blocks += [cell for cell in (*here, *printed) if (cell.method, cell.kind) == (method, kind)]
    return Table(
        title,
        PAIRS,
        _with_absent(blocks, datasets),
        ("method", "source"),
        lambda cell: (cell.method, cell.kind),
        lambda cell: (cell.dataset,),
        {cell.method: cell.title for cell in reversed(published)} | titles,  # the first printed title is used
    )


def _full(
    frame: pd.DataFrame, methods: Sequence[str], datasets: Sequence[str], controls: Collection[str], marks: Marks
) -> Table:
    """Return one row per (class, method), with the class mean last, and one column per metric."""
    classes = list(dict.fromkeys(frame["class_name"]))
    order = [*(name for name in classes if name != MEAN), MEAN]
    cells = sorted(
        cells_of(frame[frame["dataset"].isin(datasets)], methods, controls, marks),
        key=lambda cell: (
            datasets.index(cell.dataset),
            order.index(cell.class_name),
            (LEVELS.index(cell.level), list(METRICS).index((cell.level, cell.metric))),
        ),
    )
    return Table(
        "All metrics",
        f"In percent; class {MEAN} is the unweighted mean over classes",
        cells,
        ("dataset", "class", "method"),
        lambda cell: (cell.dataset, cell.class_name, cell.method),
        lambda cell: (cell.label,),
    )


def _class_means(
    frame: pd.DataFrame,
    methods: Sequence[str],
    datasets: Sequence[str],
    controls: Collection[str],
    marks: Marks | None,
) -> list[Cell]:
    """Return the AUROC class means, and their average over datasets if there are several."""
    check_names(frame, methods, datasets)
    shown = (frame["class_name"] == MEAN) & frame["dataset"].isin(datasets) & (frame["metric"] == "auroc")
    means = frame[shown]
    several = [averages(means, datasets)] if len(datasets) > 1 else []
    return cells_of(pd.concat([means, *several]), methods, controls, marks)


def _with_absent(cells: Sequence[Cell], datasets: Sequence[str]) -> list[Cell]:
    """Return the cells of every dataset of each row in order, image before pixel; missing ones have no value."""
    known = {(cell.method, cell.kind, cell.dataset, cell.level): cell for cell in cells}
    marks = {cell.method: cell.marks for cell in cells}
    columns = [*datasets, *([AVERAGE] if any(cell.dataset == AVERAGE for cell in cells) else [])]
    return [
        known.get(
            (method, kind, dataset, level),
            Cell(
                method,
                dataset,
                MEAN,
                level,
                metric,
                math.nan,
                kind=kind,
                marks=marks[method],
                note=NOT_RUN if kind == HERE else "",
            ),
        )
        for method, kind in dict.fromkeys((cell.method, cell.kind) for cell in cells)
        for dataset in dict.fromkeys(columns)
        for level, metric in MAIN_METRICS
    ]


def tables_of(frame: pd.DataFrame, run: Run, published: Sequence[Cell]) -> dict[str, Table]:
    """Return the tables of a run, keyed by the names in `Run.tables`."""
    tables = {
        "main": main_table(frame, run.main, list(run.titles), run.controls, run.marks),
        "full": _full(frame, run.main, list(run.titles), run.controls, run.marks),
    }
    for domain in run.domains:
        titles = run.titles_of(domain)
        cells = _class_means(frame, run.main, list(titles), run.controls, run.marks)
        without_average = [cell for cell in cells if cell.dataset != AVERAGE]  # as the paper's Tables 1 and 2
        tables[domain] = _comparison(f"{domain.capitalize()} datasets", without_average, published, titles)
    return tables


def ablation_of(frame: pd.DataFrame, run: Run, name: str, published: Sequence[Cell]) -> Table:
    """Return an ablation table like the paper's Table 3, with the average over datasets.

    Raises:
        InputError: the run has no such ablation.
    """
    if name not in run.ablations:
        raise unknown_name("ablation", name, run.ablations)
    cells = _class_means(frame, run.ablations[name], list(run.titles), run.controls, run.marks)
    return _comparison(f"Ablation: {name}", cells, published, run.titles)


def write_tables(
    metrics_files: Sequence[Path],
    out_dir: Path,
    run: Run,
    published_files: Sequence[Path],
    today: date,
    ablation: str | None = None,
) -> None:
    """Write metrics.csv (long) and tables as CSV, Markdown, LaTeX and HTML into a folder.

    Args:
        metrics_files: one metrics.csv per (method, auxiliary dataset, target, seed).
        out_dir: the folder, e.g. results/<run>/tables.
        run: gives the rows, datasets and protocol.
        published_files: printed numbers; see `published.read_published`.
        today: for the note below the tables.
        ablation: write the ablation table of this name instead of the main ones.
    """
    published = read_published(published_files)
    frame = collect(metrics_files, out_dir / "metrics.csv")
    if ablation is None:
        tables, rows = tables_of(frame, run, published), run.main
    else:
        tables = {ablation: ablation_of(frame, run, ablation, published)}
        rows = run.ablations[ablation]
    for name, table in tables.items():
        lines = legend(table.printed, table.what, run.facts(rows, today))
        with whole(out_dir / f"{name}.csv") as temporary:
            _long(table.cells).assign(protocol=lines[0]).to_csv(temporary, index=False)
        formats.write(out_dir / name, table.title, table.render, lines)


def _long(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return one line per number, with all attributes of its cell."""
    lines = []
    for cell in cells:
        note = "; ".join(part for part in (cell.note, TINY_NOTE if is_tiny(cell) else "") if part)
        known = replace(cell, mean=round(cell.mean, 6), std=round(cell.std, 6), note=note)
        lines.append(asdict(known) | {"seeds": " ".join(map(str, cell.seeds)), "marks": " ".join(cell.marks)})
    return pd.DataFrame(lines)
