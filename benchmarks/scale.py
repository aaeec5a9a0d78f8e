"""Measure how the workflow scales with 1, 10 and 100 times the paper's rows, seeds and images.

Planning runs the real workflow with `snakemake -n`. A pass runs the real code on images of 32 pixels with a small
random tower, because neither memory nor bookkeeping depends on the tower. Tables are made from random metrics.

OMP_NUM_THREADS=1 python benchmarks/scale.py

Seconds are CPU seconds.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).parents[1]
TINY = {"model": "kanoclip-tiny", "weights": "random:0", "image_size": 32}
LIMIT = 900  # maximum CPU seconds per measurement


def scaled(rows: int, seeds: int) -> dict[str, Any]:
    """Return the paper's configuration with `rows` times its rows and `seeds` times its seeds."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    methods = config["methods"]
    copies = {
        f"{name}_{number}": {**(options or {}), "method": (options or {}).get("method", name)}
        for number in range(1, rows)
        for name, options in methods.items()
    }
    config["methods"] = {**methods, **copies}
    config["seeds"] = list(range(1, 1 + len(config["seeds"]) * seeds))
    config.pop("ablations", None)
    return config


def planning(rows: int, seeds: int) -> str:
    """Time `snakemake -n` and return jobs, seconds and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scaled.yaml"
        path.write_text(yaml.safe_dump(scaled(rows, seeds), sort_keys=False))
        command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "-s", str(ROOT / "Snakefile")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command += ["--configfile", str(path)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = re.search(r"^total\s+(\d+)", done.stdout, re.MULTILINE)
        if found is None:
            return f"failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:100]}"
        return f"{found[1]} jobs, {used.ru_utime + used.ru_stime:.0f} s, at most {used.ru_maxrss / 2**10:.0f} MiB"


def a_pass(rows: int, images: int) -> str:
    """Score and evaluate in one pass each and return seconds and peak memory."""
    from PIL import Image

    from kanoclip.cli import app
    from kanoclip.datasets.prepare import prepare
    from kanoclip.datasets.specs import folder_spec

    with tempfile.TemporaryDirectory() as folder:
        results, data = Path(folder), Path(folder) / "images/part"
        for label in ("good", "bad"):
            (data / "test" / label).mkdir(parents=True)
        (data / "ground_truth/bad").mkdir(parents=True)
        random = np.random.default_rng(0)
        for number in range(images):
            label = "bad" if number % 2 else "good"
            pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(data / "test" / label / f"{number:07}.png", compress_level=1)
            if label == "bad":
                mask = Image.fromarray(np.pad(np.full((8, 8), 255, np.uint8), 12))
                mask.save(data / "ground_truth/bad" / f"{number:07}_mask.png")
        prepare(folder_spec("parts", {}), results / "data/parts/index.csv", results, data.parent)
        given = [
            json.dumps({"row": f"r{n}", "method": "clip", "options": {}, "auxiliary": "none", "seeds": [1]})
            for n in range(rows)
        ]
        backbone = [part for key, value in TINY.items() for part in ("--backbone-set", f"{key}={value}")]
        named = ["--results", folder, "--target", "parts", "--backbone", "tiny", *backbone]
        started = time.process_time()
        app(["score-pass", *named, *(part for row in given for part in ("--row", row))], standalone_mode=False)
        scored = time.process_time()
        folders = sorted(str(path.parent) for path in results.glob("scores/**/scores.h5"))
        app(["evaluate", *folders, "--index", str(results / "data/parts/index.csv")], standalone_mode=False)
        took = time.process_time() - scored
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        return f"score {scored - started:.0f} s, evaluate {took:.0f} s, at most {memory:.0f} MiB"


def tables(rows: int, seeds: int) -> str:
    """Write the tables of random metrics and return bytes and seconds."""
    from kanoclip.config import Configuration, parse
    from kanoclip.datasets.specs import load_spec
    from kanoclip.metrics.registry import MEAN, METRICS_COLUMNS, metrics_of
    from kanoclip.protocol import describe
    from kanoclip.report.tables import write_tables

    run = describe(parse(Configuration, scaled(rows, seeds), "scaled"))
    random = np.random.default_rng(0)
    lines = []
    for job in run.jobs_of(run.main):
        for name in [*load_spec(job.target).classes, MEAN]:
            for level in ("image", "pixel"):
                for metric in metrics_of(level):
                    known = {"method": job.row, "dataset": job.target, "class_name": name, "level": level}
                    fields = {"metric": metric.name, "value": random.random(), "seed": job.seed}
                    made = {"backbone": job.backbone, "auxiliary": job.auxiliary, "reason": ""}
                    lines.append(known | fields | made)
    frame = pd.DataFrame(lines).reindex(columns=METRICS_COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        frame.to_csv(Path(folder) / "all.csv", index=False)
        started = time.process_time()
        write_tables([Path(folder) / "all.csv"], Path(folder) / "tables", run, [], date(2026, 1, 1))
        took = time.process_time() - started
        size = {path.name: path.stat().st_size / 1e6 for path in sorted((Path(folder) / "tables").iterdir())}
        shown = ", ".join(f"{name} {size[name]:.1f} MB" for name in ("metrics.csv", "main.html", "full.html"))
        return f"{len(frame):,} values, {took:.0f} s, {shown}"


def limit() -> None:
    """Limit this process and each of its children to LIMIT CPU seconds."""
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))


MEASURES: dict[str, Callable[[int, int], str]] = {"planning": planning, "pass": a_pass, "tables": tables}


def main() -> None:
    """Print one line per measurement and factor; each runs in a separate process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--images", type=int, default=200, help="images of a pass, times the factor")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, first, second = arguments.measure
        print(MEASURES[name](int(first), int(second)))
        return
    for factor in arguments.factors:
        for what, name, first, second in (
            (f"planning, rows x {factor}", "planning", factor, 1),
            (f"planning, seeds x {factor}", "planning", 1, factor),
            (f"tables, rows x {factor}", "tables", factor, 1),
            (f"tables, seeds x {factor}", "tables", 1, factor),
            (f"pass, {factor} rows, {arguments.images} images", "pass", factor, arguments.images),
            (f"pass, 1 row, {arguments.images * factor} images", "pass", 1, arguments.images * factor),
        ):
            command = [sys.executable, __file__, "--measure", name, str(first), str(second)]
            done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
            lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
            said = f"not finished after {LIMIT} s" if done.returncode < 0 or not lines else lines[-1]
            print(f"{what:32} {said}", flush=True)


if __name__ == "__main__":
    main()
