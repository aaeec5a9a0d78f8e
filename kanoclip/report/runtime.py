"""The time, memory and parameters of a run, from cost.json and train.csv."""

import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kanoclip.files import read_text, whole
from kanoclip.report import formats
from kanoclip.report.notes import MISSING, TINY_BACKBONE, TINY_NOTE, mark_notes, signs
from kanoclip.run import Run
from kanoclip.tabular import read_csv
from kanoclip.types import InputError

KEYS = ["stage", "method", "backbone", "auxiliary", "dataset", "seed"]
COUNTS = ["images", "learnable_parameters", "total_parameters"]
PASS = ["pass_seconds", "pass_peak_memory_mb"]
COST = [*KEYS[1:], *COUNTS, "seconds", "pass", *PASS]  # the keys of a cost.json
REMEDY = "train again"
COLUMNS_EXPLAINED = (
    "A pass encodes the images of a target once and scores them with the rows and seeds of its backbone that have no "
    "scores yet. Of a backbone: images per second and peak memory of its passes, from the start of the command until "
    "the last image is scored; the seconds of several passes over a target are added, and there is no value if one was "
    "interrupted. Of a method: seconds of training, mean over seeds, without start-up; images per second of its own "
    "forward passes, without the image tower and start-up; peak memory of the command that trained it. Memory is "
    "resident main memory, the largest command's. Total parameters: with the frozen backbone."
)


def read_jobs(costs: Sequence[Path], models: Path) -> pd.DataFrame:
    """Return the costs of a run: of scoring per method and seed, of each training, and of the passes over each target.

    Args:
        costs: cost.json of every method, target and seed.
        models: the folder of trained methods, with <method>/<backbone>/<auxiliary>/seed<seed>/train.csv and cost.json.
            A missing file counts as not measured.

    Returns:
        One line per scoring ("score"), training ("train") and scored target of a backbone ("pass"): `KEYS`, "" if not
        applicable; `COUNTS`; seconds and peak_memory_mb, NaN if not measured.

    Raises:
        InputError: a file is not a cost.json.
    """
    jobs: dict[tuple[Any, ...], dict[str, Any]] = {}
    passes: dict[tuple[str, str], dict[str, list[float]]] = {}  # of a backbone and target, by the fingerprint of a pass
    for path in costs:
        cost = _cost(path)
        method, backbone, auxiliary, dataset, seed = (cost.pop(key) for key in KEYS[1:])
        measured = passes.setdefault((backbone, dataset), {})
        measured[cost.pop("pass")] = [cost.pop(key) for key in PASS]
        jobs["score", method, backbone, auxiliary, dataset, seed] = cost
        seconds, memory = np.transpose(list(measured.values()))
        one = {"images": cost["images"], "seconds": seconds.sum(), "peak_memory_mb": memory.max()}
        jobs["pass", "", backbone, "", dataset, ""] = one
        if auxiliary != "none":
            folder = models / method / backbone / auxiliary / f"seed{seed}"
            jobs["train", method, backbone, auxiliary, "", seed] = {
                "seconds": _training_seconds(folder / "train.csv"),
                "peak_memory_mb": _training_memory(folder / "cost.json"),
            }
    lines = [dict(zip(KEYS, key, strict=True)) | job for key, job in jobs.items()]
    frame = pd.DataFrame(lines, columns=[*KEYS, *COUNTS, "seconds", "peak_memory_mb"])
    return frame.astype(dict.fromkeys(COUNTS, "Int64") | {"seconds": float, "peak_memory_mb": float})


def _cost(path: Path) -> dict[str, Any]:
    try:
        cost = json.loads(read_text(path, "the cost of a scoring"))
        kinds: dict[str, Callable[[Any], Any]] = {
            **dict.fromkeys((*KEYS[1:5], "pass"), str),
            **dict.fromkeys(("seed", *COUNTS), int),
            **dict.fromkeys(("seconds", *PASS), _number_or_nan),
        }
        return {key: kind(cost[key]) for key, kind in kinds.items()}
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: expected the keys {', '.join(COST)}, found others; score again") from error


def _number_or_nan(value: float | None) -> float:
    """Return a number; NaN for null, which means not measured."""
    return float("nan") if value is None else float(value)


def _training_seconds(path: Path) -> float:
    """Return the seconds of a training; NaN without a log, as for imported weights.

    Raises:
        InputError: the log has none.
    """
    if not path.is_file():
        return float("nan")
    frame = read_csv(path, None, REMEDY)
    try:
        return float(frame["seconds"].iloc[-1])
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{path}: expected a number in the column seconds, found none; {REMEDY}") from error


def _training_memory(path: Path) -> float:
    """Return the peak memory of a training in MB; NaN without a file, as for imported weights.

    Raises:
        InputError: the file has none.
    """
    if not path.is_file():
        return float("nan")
    try:
        return float(json.loads(read_text(path, "the cost of a training"))["peak_memory_mb"])
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: expected the key peak_memory_mb, found others; {REMEDY}") from error


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
            "peak memory (MB)": _number(of_backbone["peak_memory_mb"].max(skipna=False), ".0f"),
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


def write_runtime(costs: Sequence[Path], models: Path, out_dir: Path, run: Run, today: date) -> None:
    """Write runtime.csv (one line per job) and runtime.md, .tex, .html (one line per method) into a folder.

    Args:
        costs: cost.json of every method, target and seed.
        models: the folder of trained methods; see `read_jobs`.
        out_dir: the folder, e.g. results/<run>/tables.
        run: gives the rows and the protocol.
        today: for the note below the table.
    """
    jobs = read_jobs(costs, models)
    table = summary(jobs, run)
    lines = [f"Protocol: {'; '.join(run.facts(run.main, today))}.", COLUMNS_EXPLAINED]
    lines += mark_notes(mark for name in run.main for mark in run.marks[name])
    lines += [TINY_NOTE] if any(name.startswith(TINY_BACKBONE) for name in jobs["backbone"]) else []
    with whole(out_dir / "runtime.csv") as temporary:
        jobs.assign(note=" ".join(lines)).to_csv(temporary, index=False)
    formats.write(out_dir / "runtime", "Runtime", lambda style: table, lines)
