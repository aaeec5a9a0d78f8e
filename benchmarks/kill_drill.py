"""Kill a tiny run many times with SIGKILL at random moments of all stages, and check that its files are unchanged.

python benchmarks/kill_drill.py --kills 50

The repository is copied to a temporary folder. One copy runs undisturbed; another is killed, unlocked and started
again, and begins again if it finishes before enough kills. Every finished run is compared with the undisturbed one.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
NEEDED = ("Snakefile", "environment.yml", "workflow", "profiles", "kanoclip", "config")
CONFIG: dict[str, Any] = {
    "run": "drill",
    "backbones": {"kanoclip-tiny-32": {"model": "kanoclip-tiny", "weights": "random:0", "image_size": 32}},
    "backbone": "kanoclip-tiny-32",
    "auxiliary": "parts",
    "auxiliary_for": {},
    "targets": ["others"],
    "seeds": [1, 2],
    "methods": {"clip": None, "april_gan": {"epochs": 3}, "oracle": None},
    "datasets": {name: {"path": name} for name in ("parts", "others")},
}
# these files contain times
TIMED = {"train.csv", "cost.json"}
COMPARED = {".csv", ".h5", ".safetensors", ".jsonl", ".png"}


def main() -> None:
    """Kill the run and compare its files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--longest", type=float, default=20.0, help="seconds from a start to its kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    moments, stages, finished = random.Random(args.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as place:
        calm, killed = project(Path(place) / "calm"), project(Path(place) / "killed")
        if snakemake(calm).wait() != 0:
            sys.exit(f"the undisturbed run failed:\n{log_end(calm)}")
        expected = contents(calm)
        while True:
            at = kill(killed, moments.uniform(1, args.longest) if stages.total() < args.kills else None)
            if at is not None:
                stages[at] += 1
                print(f"kill {stages.total()}: {at}", flush=True)
                continue
            check(killed, expected)
            finished += 1
            if stages.total() >= args.kills:
                break
            shutil.rmtree(killed / "results")
    print(f"{stages.total()} kills, while working on: {dict(stages.most_common())}")
    print(f"{finished} finished runs, {len(expected)} files each: byte-identical, and no temporary file was left")


def kill(folder: Path, after: float | None) -> str | None:
    """Start the run and kill it after some seconds; return the stage it worked on, None if it finished before.

    Raises:
        SystemExit: the run failed.
    """
    run, started = snakemake(folder), time.time()
    with contextlib.suppress(subprocess.TimeoutExpired):
        if run.wait(after) != 0:
            sys.exit(f"failed after a kill:\n{log_end(folder)}")
        return None
    at = stage(folder, started)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(0.2)
    subprocess.run([*COMMAND, "--unlock"], cwd=folder, capture_output=True, check=True)
    return at


def check(folder: Path, expected: dict[str, bytes]) -> None:
    """Compare a finished run with the undisturbed one.

    Raises:
        SystemExit: a file differs, is missing or is left over.
    """
    found = contents(folder)
    different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if different:
        sys.exit(f"{len(different)} files differ: {', '.join(different[:5])}")
    left = [str(path) for path in (folder / "results").rglob(".*-*.*") if path.is_file()]
    if left:
        sys.exit(f"{len(left)} temporary files are left: {', '.join(left[:5])}")


COMMAND = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", "drill.yaml"]


def project(folder: Path) -> Path:
    """Return a copy of the repository with two datasets of noise."""
    for name in NEEDED:
        source, copy = ROOT / name, folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    rng = np.random.default_rng(0)
    for dataset in ("parts", "others"):
        for defect in ("good", "spot"):
            for number in range(6):
                image, mask = rng.integers(80, 120, (40, 48, 3), dtype=np.uint8), np.zeros((40, 48), np.uint8)
                if defect == "spot":
                    mask[5:15, 8:20] = 255
                    image[mask > 0] = 250
                    save(mask, folder / dataset / f"nut/ground_truth/spot/{number}_mask.png")
                save(image, folder / dataset / f"nut/test/{defect}/{number}.png")
    (folder / "drill.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    return folder


def save(pixels: np.ndarray, path: Path) -> None:
    """Write an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def snakemake(folder: Path) -> subprocess.Popen[bytes]:
    """Start the run in its own process group, so that a kill ends its jobs too."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (folder / "drill.log").open("wb") as log:
        return subprocess.Popen(
            [*COMMAND, "--rerun-incomplete"],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )


def stage(folder: Path, started: float) -> str:
    """Return the stage whose log changed last since a start time in seconds; "start" if there is none."""
    logs = folder / "results" / CONFIG["run"] / "logs"
    times = {path: path.stat().st_mtime for path in logs.rglob("*.log")}
    last = max(times, key=times.__getitem__, default=None)
    if last is None or times[last] < started:
        return "start"
    return last.relative_to(logs).parts[0].removesuffix(".log")


def log_end(folder: Path) -> str:
    """Return the end of Snakemake's log."""
    return (folder / "drill.log").read_text()[-3000:]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of the finished files, except for those with times."""
    results = folder / "results"
    return {
        path.relative_to(results).as_posix(): path.read_bytes()
        for path in sorted(results.rglob("*"))
        if path.suffix in COMPARED
        and path.name not in TIMED
        and "store" not in path.parts
        and "runtime" not in path.name
    }


if __name__ == "__main__":
    main()
