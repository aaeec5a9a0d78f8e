"""From metrics.csv files to tables: the long one, which is the truth, and the main one, rendered four ways."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kanoclip.files import whole, write_text
from kanoclip.metrics.registry import MEAN, METRICS_COLUMNS, METRICS_KEYS, METRICS_NUMBERS, get_metric
from kanoclip.report import formats
from kanoclip.report.formats import Style
from kanoclip.types import InputError, unknown_name

MAIN_METRICS = (("image", "auroc"), ("pixel", "auroc"))
CONTROLS = ("oracle", "random")  # shown, but never the best or second best method
TINY_BACKBONE = "kanoclip-tiny"
TINY_NOTE = "Embedded tiny backbone: not results of the paper."
SEEN_NOTE = "† seen in training: not zero-shot."
MISSING = "-"


@dataclass(frozen=True)
class Cell:
    """A value of the main table, in percent.

    Attributes:
        mean: over seeds, rounded as it is shown; NaN when any seed has no value.
        std: sample standard deviation over seeds; NaN with one seed.
        seen: the method was trained on the target dataset.
        control: the method is a control, which is no competitor.
        reason: why there is no value; "" when there is one.
    """

    mean: float
    std: float
    seen: bool
    control: bool
    reason: str

    @property
    def ranked(self) -> bool:
        """Whether the cell can be the best or second best."""
        return not (math.isnan(self.mean) or self.seen or self.control)


def read_metrics(path: Path) -> pd.DataFrame:
    """Read a metrics.csv; a missing value is NaN and has a reason.

    Raises:
        InputError: the columns are not those of a metrics.csv.
    """
    frame = pd.read_csv(path, keep_default_na=False, na_values=dict.fromkeys(METRICS_NUMBERS, [""]))
    if list(frame.columns) != METRICS_COLUMNS:
        raise InputError(f"{path}: expected the columns {','.join(METRICS_COLUMNS)}, found {','.join(frame.columns)}")
    return frame


def collect(metrics_files: Sequence[Path], out: Path) -> pd.DataFrame:
    """Put metrics files one below the other, in the order given, into one long metrics.csv.

    Raises:
        InputError: there is no file, or two files hold the same value.
    """
    if not metrics_files:
        raise InputError("no metrics files given; evaluate at least one method first")
    frame = pd.concat([read_metrics(path) for path in metrics_files], ignore_index=True)
    if frame.duplicated(METRICS_KEYS).any():
        twice = frame[frame.duplicated(METRICS_KEYS)].iloc[0]
        raise InputError(f"metrics files: {', '.join(f'{key} {twice[key]}' for key in METRICS_KEYS)} is given twice")
    with whole(out) as temporary:
        frame.to_csv(temporary, index=False)
    return frame


def main_table(
    frame: pd.DataFrame, methods: Sequence[str], datasets: Sequence[str], style: Style = formats.PLAIN
) -> pd.DataFrame:
    """The main table: rows methods, columns datasets x (image AUROC, pixel AUROC).

    Args:
        frame: long metrics, as `collect` returns them; the rows of class means are used.
        methods: the rows, in this order; a method with several backbones has a row for each.
        datasets: the columns, in this order.
        style: how best, second best and marks are written.

    Returns:
        Text in percent with one decimal, mean ± standard deviation over seeds when there are several, "-" when there is
        no value, † when the method was trained on the dataset. Columns are (dataset, metric label).

    Raises:
        InputError: a method or dataset is not in the metrics, or a cell mixes several auxiliary datasets.
    """
    cells = main_cells(frame, methods, datasets)
    rows = list(dict.fromkeys(row for row, *_ in cells))
    table = {}
    for dataset in datasets:
        for level, name in MAIN_METRICS:
            known = get_metric(level, name)
            column = [cells[row, dataset, level, name] for row in rows]
            places = _best_two(column, known.higher_is_better)
            table[dataset, known.label] = [_text(cell, style, *places) for cell in column]
    return pd.DataFrame(table, index=pd.Index(rows, name="method"))


def main_cells(
    frame: pd.DataFrame, methods: Sequence[str], datasets: Sequence[str]
) -> dict[tuple[str, str, str, str], Cell]:
    """The numbers of the main table by (row, dataset, level, metric); see `main_table`."""
    for kind, wanted in (("method", methods), ("dataset", datasets)):
        for name in wanted:
            if name not in set(frame[kind]):
                raise unknown_name(f"{kind} in the metrics", name, set(frame[kind]))
    means = frame[frame["class_name"] == MEAN]
    cells = {}
    for method in methods:
        of_method = means[means["method"] == method]
        backbones = list(dict.fromkeys(of_method["backbone"]))
        for backbone in backbones:
            row = method if len(backbones) == 1 else f"{method} ({backbone})"
            of_row = of_method[of_method["backbone"] == backbone]
            for dataset in datasets:
                for level, name in MAIN_METRICS:
                    chosen = (of_row["dataset"] == dataset) & (of_row["level"] == level) & (of_row["metric"] == name)
                    cells[row, dataset, level, name] = _cell(of_row[chosen])
    return cells


def _cell(seeds: pd.DataFrame) -> Cell:
    """One cell from its rows of the long table, one a seed."""
    if seeds.empty:
        return Cell(math.nan, math.nan, seen=False, control=False, reason="not run")
    first = seeds.iloc[0]
    if seeds["auxiliary"].nunique() > 1:
        raise InputError(
            f"{first['method']} on {first['dataset']}: one cell with several auxiliary datasets "
            f"({', '.join(seeds['auxiliary'].unique())}); give the metrics of one"
        )
    percent = 100 * seeds["value"]
    missing = seeds.loc[seeds["value"].isna(), "reason"]
    return Cell(
        mean=round(percent.mean(skipna=False), 1),
        std=percent.std(ddof=1, skipna=False),
        seen=first["auxiliary"] == first["dataset"],
        control=first["method"] in CONTROLS,
        reason="" if missing.empty else missing.iloc[0],
    )


def _best_two(cells: Sequence[Cell], higher_is_better: bool) -> tuple[float | None, float | None]:
    """The best and second best value as shown; methods with equal values share the place."""
    values = sorted({cell.mean for cell in cells if cell.ranked}, reverse=higher_is_better)
    best, second, *_ = [*values, None, None]
    return best, second


def _text(cell: Cell, style: Style, best: float | None, second: float | None) -> str:
    """A cell as it is shown."""
    if math.isnan(cell.mean):
        return MISSING
    text = f"{cell.mean:.1f}"
    if not math.isnan(cell.std):
        text += f" {style.plus_minus} {cell.std:.1f}"
    if cell.ranked and cell.mean == best:
        text = style.best.format(text)
    elif cell.ranked and cell.mean == second:
        text = style.second.format(text)
    return text + style.dagger if cell.seen else text


def notes(frame: pd.DataFrame, methods: Sequence[str], datasets: Sequence[str], facts: Sequence[str] = ()) -> list[str]:
    """What stands beneath the main table: under which protocol its numbers were made, and what its marks mean.

    Args:
        frame: long metrics.
        methods: the rows of the table.
        datasets: its columns.
        facts: what the metrics do not say, e.g. "image size 224", "maps evaluated at 224 x 224", "kanoclip 0.1.0".
    """
    shown = frame[frame["method"].isin(methods) & frame["dataset"].isin(datasets)]
    cells = main_cells(frame, methods, datasets)
    seeds = [str(seed) for seed in sorted(set(shown["seed"]))]
    protocol = [
        _auxiliaries(shown),
        f"backbone {', '.join(dict.fromkeys(shown['backbone']))}",
        *facts,
        f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(seeds)}",
    ]
    several = any(not math.isnan(cell.std) for cell in cells.values())
    seen = any(cell.seen for cell in cells.values())
    unranked = [method for method in methods if method in CONTROLS] + ["seen datasets"] * seen
    lines = [
        f"Protocol: {'; '.join(protocol)}.",
        "AUROC in percent, unweighted mean over classes"
        + (", mean ± standard deviation over seeds" if several else "")
        + ". Best bold, second underlined"
        + (f"; not ranked: {', '.join(unranked)}." if unranked else "."),
    ]
    if seen:
        lines.append(SEEN_NOTE)
    reasons: dict[str, list[str]] = {}
    for (row, dataset, level, _), cell in cells.items():
        if cell.reason:
            where = f"{row} on {dataset}" if cell.reason == "not run" else f"{dataset} {level}"
            reasons.setdefault(cell.reason, []).append(where)
    for reason, places in reasons.items():
        lines.append(f"Missing ({MISSING}), {reason}: {', '.join(dict.fromkeys(places))}.")
    if any(backbone.startswith(TINY_BACKBONE) for backbone in shown["backbone"]):
        lines.append(TINY_NOTE)
    return lines


def _auxiliaries(shown: pd.DataFrame) -> str:
    """Which auxiliary dataset the trained methods used, and for which target when that differs."""
    pairs = shown.loc[shown["auxiliary"] != "none", ["auxiliary", "dataset"]].drop_duplicates()
    targets = pairs.groupby("auxiliary", sort=False)["dataset"].agg(", ".join)
    if targets.empty:
        return "no auxiliary dataset"
    if len(targets) == 1:
        return f"auxiliary dataset {targets.index[0]}"
    return "auxiliary dataset " + ", ".join(f"{name} (for {target})" for name, target in targets.items())


def write_tables(
    metrics_files: Sequence[Path],
    out_dir: Path,
    methods: Sequence[str],
    datasets: Sequence[str],
    facts: Sequence[str] = (),
) -> None:
    """Write metrics.csv (long) and main.csv, main.md, main.tex, main.html into a folder.

    Args:
        metrics_files: a metrics.csv of each method, auxiliary and target dataset, and seed.
        out_dir: the folder, e.g. results/<run>/tables.
        methods: the rows of the main table, in this order.
        datasets: its columns, in this order.
        facts: parts of the protocol that the metrics do not hold; see `notes`.
    """
    frame = collect(metrics_files, out_dir / "metrics.csv")
    lines = notes(frame, methods, datasets, facts)
    plain = formats.flat(main_table(frame, methods, datasets)).assign(note=" ".join(lines))
    with whole(out_dir / "main.csv") as temporary:
        plain.to_csv(temporary)
    write_text(out_dir / "main.md", formats.to_markdown(main_table(frame, methods, datasets, formats.MARKDOWN), lines))
    write_text(out_dir / "main.tex", formats.to_latex(main_table(frame, methods, datasets, formats.LATEX), lines))
    fragment = formats.to_html(main_table(frame, methods, datasets, formats.HTML), lines)
    write_text(out_dir / "main.html", formats.to_document(fragment))
