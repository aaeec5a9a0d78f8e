"""Compare one evaluation pass over the scores of many methods with evaluating them one by one, on drawn images.

OMP_NUM_THREADS=1 python benchmarks/evaluate_pass.py                            # 192 images at 128 x 128, 20 files
OMP_NUM_THREADS=1 python benchmarks/evaluate_pass.py --size 518 --grid 37 --rows 8
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch

from kanoclip.datasets.index import read_index
from kanoclip.datasets.prepare import prepare
from kanoclip.datasets.specs import load_spec
from kanoclip.metrics.evaluate import Evaluation, evaluate, evaluate_pass
from kanoclip.result_store import Store


def write_scores(path: Path, frame: pd.DataFrame, grid: int, size: int, seed: int) -> None:
    """Write scores.h5 of smooth noise that is a little higher on anomalous images."""
    generator = np.random.default_rng(seed)
    maps = generator.beta(2, 5, (len(frame), grid, grid)) * (0.8 + 0.2 * frame["label"].to_numpy()[:, None, None])
    with h5py.File(path, "w") as file:
        file["image"] = np.array(frame["image"].tolist(), dtype=h5py.string_dtype())
        file["image_score"] = maps.max(axis=(1, 2)).astype(np.float32)
        file.create_dataset("map", data=maps.astype(np.float32), compression="gzip", compression_opts=1, shuffle=True)
        file.attrs.update(method=f"m{seed}", backbone="none", auxiliary="none", dataset="synthetic", seed=seed)
        file.attrs.update(sigma=4.0, image_size=size)


def cpu_seconds(function: Callable[[], None]) -> float:
    """Return the CPU seconds of a call, which include waiting for a GPU but not other work on the machine."""
    started = time.process_time()
    function()
    return time.process_time() - started


def start_seconds() -> float:
    """Return the CPU seconds to start a process and import the modules for evaluation."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import kanoclip.metrics.evaluate"], check=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peak_memory() -> float:
    """Return the peak memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Print seconds, ratios and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20, help="scores files")
    parser.add_argument("--size", type=int, default=128, help="pixels per side")
    parser.add_argument("--grid", type=int, default=16, help="values per side of a map before it is upsampled")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index = folder / "index.csv"
        prepare(load_spec("synthetic"), index, folder)
        frame = read_index(index)
        todo = []
        for row in range(args.rows):
            out = folder / str(row)
            out.mkdir()
            write_scores(out / "scores.h5", frame, args.grid, args.size, row)
            todo.append(Evaluation(out / "scores.h5", out / "metrics.csv", out / "curves.csv"))
        settings = {"bootstrap": args.bootstrap, "device": args.device}
        evaluate(todo[0].scores, index, folder / "first" / "metrics.csv", **settings)  # the first call is slow
        single_memory = peak_memory()
        store = Store(folder / "store")
        together = cpu_seconds(lambda: evaluate_pass(todo, index, store=store, **settings))
        memory = peak_memory()
        again = cpu_seconds(lambda: evaluate_pass(todo, index, store=store, **settings))
        alone = cpu_seconds(lambda: [evaluate(one.scores, index, one.metrics, **settings) for one in todo] and None)
    start = start_seconds()
    print(f"{args.rows} scores files, {len(frame)} images at {args.size} x {args.size}, {args.device}; CPU seconds")
    print(f"one by one {alone:6.2f} s   one pass {together:6.2f} s: {alone / together:.2f} times as fast")
    jobs, job = args.rows * start + alone, start + together
    print(f"as jobs    {jobs:6.2f} s   one job  {job:6.2f} s: {jobs / job:.2f} times as fast; start-up {start:.2f} s")
    print(f"the pass again, with all results stored: {again:.2f} s")
    print(f"peak memory: {single_memory:.0f} MiB for one file, {memory:.0f} MiB for the pass")


if __name__ == "__main__":
    main()
