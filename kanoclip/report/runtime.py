"""The time, memory and parameters of a run, from cost.json, train.csv and Snakemake's benchmark files."""

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from kanoclip.files import read_text, whole
from kanoclip.report import formats
from kanoclip.report.notes import MISSING, TINY_BACKBONE, TINY_NOTE, mark_notes, signs
from kanoclip.run import Run
from kanoclip.tabular import read_csv
from kanoclip.types import InputError

KEYS = ["stage", "method", "backbone", "auxiliary", "dataset", "seed"]
COUNTS = ["images", "learnable_parameters", "total_parameters"]
COST = [*KEYS[1:], *COUNTS, "seconds"]  # the keys of a cost.json
COLUMNS_EXPLAINED = (
    "A pass encodes the images of a target once and scores them with every method and seed of its backbone: images per "
    "second and peak memory are those of the whole command, start-up included. Of a method: seconds of training, mean "
    "over seeds, without start-up; images per second of its own forward passes, without the image tower and start-up; "
    "peak memory of the command that trains all its seeds. Memory is resident main memory, the largest job's. Total "
    "parameters: with the frozen backbone."
)


def read_jobs(costs: Sequence[Path], models: Path, benchmarks: Path) -> pd.DataFrame:
    """Return the costs of a run: of scoring per method and seed, of each training, and of each pass over a target.

    Args:
        costs: cost.json of every method, target and seed.
        models: the folder of trained methods, with <method>/<backbone>/<auxiliary>/seed<seed>/train.csv.
        benchmarks: the folder of Snakemake's benchmark files, with score/<backbone>/<target>.tsv for a pass and
            train/<method>/<backbone>/<auxiliary>.tsv. A missing file counts as not measured.

    Returns:
        One line per scoring ("score"), training ("train") and pass ("pass"): `KEYS`, "" if not applicable; `COUNTS`;
        seconds and peak_memory_mb, NaN if not measured.

    Raises:
        InputError: a file is not a cost.json.
    """
    jobs: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path in costs:
        cost = _cost(path)
        method, backbone, auxiliary, dataset, seed = (cost.pop(key) for key in KEYS[1:])
        jobs["score", method, backbone, auxiliary, dataset, seed] = cost
        measured = _measured(benchmarks / f"score/{backbone}/{dataset}.tsv")
        jobs["pass", "", backbone, "", dataset, ""] = {"images": cost["images"], **measured}
        if auxiliary != "none":
            place = f"{method}/{backbone}/{auxiliary}"
            measured = _measured(benchmarks / f"train/{place}.tsv")
            seconds = _training_seconds(models / f"{place}/seed{seed}/train.csv")
            jobs["train", method, backbone, auxiliary, "", seed] = {**measured, "seconds": seconds}
    lines = [dict(zip(KEYS, key, strict=True)) | job for key, job in jobs.items()]
    frame = pd.DataFrame(lines, columns=[*KEYS, *COUNTS, "seconds", "peak_memory_mb"])
    return frame.astype(dict.fromkeys(COUNTS, "Int64") | {"seconds": float, "peak_memory_mb": float})


def _cost(path: Path) -> dict[str, Any]:
    try:
        cost = json.loads(read_text(path, "the cost of a scoring"))
        kinds = dict.fromkeys(KEYS[1:5], str) | dict.fromkeys(("seed", *COUNTS), int) | {"seconds": float}
        return {key: kind(cost[key]) for key, kind in kinds.items()}
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: expected the keys {', '.join(COST)}, found others; score again") from error


def _measured(path: Path) -> dict[str, float]:
    """Return the seconds and the peak memory of a job; nothing if they were not measured."""
    if not path.is_file():
        return {}
    return {"seconds": _last(path, "s", sep="\t"), "peak_memory_mb": _last(path, "max_rss", sep="\t")}


def _training_seconds(path: Path) -> float:
    """Return the seconds of a training; NaN without a log, as for imported weights."""
    return _last(path, "seconds") if path.is_file() else float("nan")


def _last(path: Path, column: str, **options: Any) -> float:
    """Return the last number of a column.

    Raises:
        InputError: there is none.
    """
    remedy = "delete the file to leave it out"
    frame = read_csv(path, None, remedy, na_values=["-"], **options)
    try:
        return float(frame[column].iloc[-1])
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{path}: expected a number in the column {column}, found none; {remedy}") from error


def summary(jobs: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Return one row for the passes of each backbone, and one per row of the main tables; see `COLUMNS_EXPLAINED`.

    Args:
        jobs: from `read_jobs`.
        run: gives the rows and their order.
    """
    rows: dict[str, dict[str, str]] = {}
    passes, scored, trained = (jobs[jobs["stage"] == stage] for stage in ("pass", "score", "train"))
    for backbone, of_backbone in passes.groupby("backbone", sort=False):
        rows[f"pass with {backbone}"] = {
            "images per second": _number(_rate(of_backbone), ".1f"),
            "peak memory (MB)": _number(of_backbone["peak_memory_mb"].max(), ".0f"),
        }
    for name in run.main:
        scoring, training = scored[scored["method"] == name], trained[trained["method"] == name]
        rows[name + signs(run.marks[name])] = {
            "train (s)": _number(training["seconds"].mean(), ".1f"),
            "images per second": _number(_rate(scoring), ".1f"),
            "peak memory (MB)": _number(training["peak_memory_mb"].max(), ".0f"),
            "learnable parameters": _number(scoring["learnable_parameters"].max(), ",.0f"),
            "total parameters": _number(scoring["total_parameters"].max(), ",.0f"),
        }
    columns = ["train (s)", "images per second", "peak memory (MB)", "learnable parameters", "total parameters"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).fillna(MISSING).rename_axis("method")


def _rate(jobs: pd.DataFrame) -> float:
    """Return images per second over jobs; NaN if one was not measured or the total time is 0."""
    seconds = float(jobs["seconds"].sum(skipna=False))
    return float(jobs["images"].sum()) / seconds if seconds else float("nan")


def _number(value: float, form: str) -> str:
    return MISSING if pd.isna(value) else format(value, form)


def write_runtime(costs: Sequence[Path], models: Path, benchmarks: Path, out_dir: Path, run: Run, today: date) -> None:
    """Write runtime.csv (one line per job) and runtime.md, .tex, .html (one line per method) into a folder.

    Args:
        costs: cost.json of every method, target and seed.
        models: the folder of trained methods; see `read_jobs`.
        benchmarks: the folder of Snakemake's benchmark files; see `read_jobs`.
        out_dir: the folder, e.g. results/<run>/tables.
        run: gives the rows and the protocol.
        today: for the note below the table.
    """
    jobs = read_jobs(costs, models, benchmarks)
    table = summary(jobs, run)
    lines = [f"Protocol: {'; '.join(run.facts(run.main, today))}.", COLUMNS_EXPLAINED]
    lines += mark_notes(mark for name in run.main for mark in run.marks[name])
    lines += [TINY_NOTE] if any(name.startswith(TINY_BACKBONE) for name in jobs["backbone"]) else []
    with whole(out_dir / "runtime.csv") as temporary:
        jobs.assign(note=" ".join(lines)).to_csv(temporary, index=False)
    formats.write(out_dir / "runtime", "Runtime", lambda style: table, lines)
