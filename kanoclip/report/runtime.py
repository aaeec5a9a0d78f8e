"""What a run cost: seconds, memory and parameters, from Snakemake's benchmark files and the attributes of scores.h5."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import h5py
import pandas as pd

from kanoclip.files import whole
from kanoclip.report import formats
from kanoclip.report.notes import MISSING, TINY_BACKBONE, TINY_NOTE
from kanoclip.run import Run
from kanoclip.types import InputError

KEYS = ["stage", "method", "backbone", "auxiliary", "dataset", "seed"]
COSTS = ["seconds", "learnable_parameters", "total_parameters"]  # the attributes of scores.h5 besides the keys
READING = (
    "Seconds: of a whole command as Snakemake measured it, start-up included; mean over its jobs. Images per second: "
    "of an encoder from image files, start-up included; of a method from cached features, without start-up. Peak "
    "memory: the largest job's resident main memory. Total parameters: with the frozen backbone."
)


def read_jobs(scores: Sequence[Path], benchmarks: Path) -> pd.DataFrame:
    """What every job cost: scoring, the training before it, and the encoding of its dataset, each once.

    Args:
        scores: scores.h5 of every method, target and seed.
        benchmarks: the folder with encode/, train/ and score/. A file that it lacks leaves its job unmeasured.

    Returns:
        stage, method, backbone, auxiliary, dataset, seed ("" where it does not matter); images; seconds and
        peak_memory_mb of the command (NaN if not measured); of a scoring job also scoring_seconds, without start-up,
        learnable_parameters and total_parameters.

    Raises:
        InputError: a scores.h5 does not say what it cost.
    """
    jobs: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path in scores:
        known = _attributes(path)
        method, backbone, auxiliary, dataset, seed = (known.pop(key) for key in KEYS[1:])
        encode = ("encode", "", backbone, "", dataset, "")
        train = ("train", method, backbone, auxiliary, "", seed)
        score = ("score", method, backbone, auxiliary, dataset, seed)
        jobs[encode] = {"images": known["images"], **_measured(benchmarks / f"encode/{backbone}/{dataset}.tsv")}
        if auxiliary != "none":
            jobs[train] = _measured(benchmarks / f"train/{method}/{backbone}/{auxiliary}/seed{seed}.tsv")
        file = benchmarks / f"score/{method}/{backbone}/{auxiliary}/{dataset}/seed{seed}.tsv"
        jobs[score] = {**known, **_measured(file)}
    lines = [dict(zip(KEYS, key, strict=True)) | job for key, job in jobs.items()]
    columns = [*KEYS, "images", "seconds", "peak_memory_mb", "scoring_seconds", *COSTS[1:]]
    return pd.DataFrame(lines, columns=columns).astype(dict.fromkeys(["images", *COSTS[1:]], "Int64"))


def _attributes(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        missing = [name for name in (*KEYS[1:], *COSTS) if name not in file.attrs]
        if missing:
            raise InputError(f"{path}: expected the attribute {missing[0]}, found none; score again")
        known = {name: file.attrs[name] for name in (*KEYS[1:], *COSTS)}
        return known | {"images": len(file["image"]), "scoring_seconds": known.pop("seconds")}


def _measured(path: Path) -> dict[str, float]:
    """Seconds and peak memory of a job; nothing if it was not measured."""
    if not path.is_file():
        return {}
    line = pd.read_csv(path, sep="\t", na_values=["-"]).iloc[-1]
    return {"seconds": float(line["s"]), "peak_memory_mb": float(line["max_rss"])}


def summary(jobs: pd.DataFrame, run: Run) -> pd.DataFrame:
    """One row an encoder and one a row of the main tables; see `READING` for what the columns say.

    Args:
        jobs: from `read_jobs`.
        run: its rows, in order.
    """
    rows: dict[str, dict[str, str]] = {}
    scored, encoded, trained = (jobs[jobs["stage"] == stage] for stage in ("score", "encode", "train"))
    for backbone, of_backbone in encoded.groupby("backbone", sort=False):
        rows[f"encoder {backbone}"] = {
            "encode or score (s)": _number(of_backbone["seconds"].mean(), ".1f"),
            "images per second": _number(of_backbone["images"].sum() / of_backbone["seconds"].sum(skipna=False), ".1f"),
            "peak memory (MB)": _number(of_backbone["peak_memory_mb"].max(), ".0f"),
        }
    for name in run.main:
        scoring, training = scored[scored["method"] == name], trained[trained["method"] == name]
        rows[name] = {
            "train (s)": _number(training["seconds"].mean(), ".1f"),
            "encode or score (s)": _number(scoring["seconds"].mean(), ".1f"),
            "images per second": _number(scoring["images"].sum() / scoring["scoring_seconds"].sum(), ".1f"),
            "peak memory (MB)": _number(pd.concat([scoring, training])["peak_memory_mb"].max(), ".0f"),
            "learnable parameters": _number(scoring["learnable_parameters"].max(), ",.0f"),
            "total parameters": _number(scoring["total_parameters"].max(), ",.0f"),
        }
    columns = list(dict.fromkeys(["train (s)", *(column for row in rows.values() for column in row)]))
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).fillna(MISSING).rename_axis("method")


def _number(value: float, form: str) -> str:
    return MISSING if pd.isna(value) else format(value, form)


def write_runtime(scores: Sequence[Path], benchmarks: Path, out_dir: Path, run: Run, today: date) -> None:
    """Write runtime.csv (one line a job) and runtime.md, .tex, .html (one line a method) into a folder.

    Args:
        scores: scores.h5 of every method, target and seed.
        benchmarks: Snakemake's benchmark files; see `read_jobs`.
        out_dir: the folder, e.g. results/<run>/tables.
        run: its rows and protocol.
        today: for the note beneath.
    """
    jobs = read_jobs(scores, benchmarks)
    table = summary(jobs, run)
    lines = [f"Protocol: {'; '.join(run.facts(run.main, today))}.", READING]
    lines += [TINY_NOTE] if any(name.startswith(TINY_BACKBONE) for name in jobs["backbone"]) else []
    with whole(out_dir / "runtime.csv") as temporary:
        jobs.assign(note=" ".join(lines)).to_csv(temporary, index=False)
    formats.write(out_dir / "runtime", "Runtime", lambda style: table, lines)
