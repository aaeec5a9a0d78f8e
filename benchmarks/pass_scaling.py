"""Measure the cost of more rows in a pass: images per second and peak memory, compared with one pass per row.

OMP_NUM_THREADS=1 python benchmarks/pass_scaling.py
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from kanoclip.backbones.clip import load_backbone
from kanoclip.config import BackboneConfig, parse
from kanoclip.datasets.index import read_index
from kanoclip.datasets.prepare import prepare
from kanoclip.datasets.specs import load_spec
from kanoclip.features import LiveFeatures
from kanoclip.methods import method_class
from kanoclip.scoring import Scorer, ScoresInProgress, run_pass

METHODS = ("clip", "clip_ac", "april_gan", "anomalyclip", "mvfa", "kanoclip", "winclip")
OPTIONS = {"kanoclip": {"width": 64, "heads": 4, "bottleneck": 32}}


def measure(names: list[str], images: int) -> tuple[float, float]:
    """Return the CPU seconds of a pass of untrained rows, and the peak memory of this process in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index.csv"
        prepare(load_spec("synthetic"), index, Path(folder))
        frame = read_index(index).iloc[:images]
        backbone = load_backbone(BackboneConfig(model="kanoclip-tiny", weights="embedded", image_size=128))
        scorers = []
        for number, name in enumerate(names):
            kind, place = method_class(name), Path(folder) / str(number)
            place.mkdir()
            method = kind(backbone, parse(kind.Options, OPTIONS.get(name, {}), name), number)
            scorers.append(Scorer(method, ScoresInProgress(place, frame)))
        started = time.process_time()
        run_pass(scorers, LiveFeatures(frame, backbone), frame)
        return time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def in_a_process(names: list[str], images: int) -> tuple[float, float]:
    """Measure in a separate process, so that peak memory is measured separately."""
    command = [sys.executable, __file__, "--images", str(images), "--measure", *names]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    took, memory = json.loads(result.stdout.splitlines()[-1])
    return took, memory


def main() -> None:
    """Print one line per number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 7, 21, 42], help="numbers of rows per pass")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--measure", nargs="+", help="measure these rows only, and print seconds and memory as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.measure:
        print(json.dumps(measure(args.measure, args.images)))
        return
    alone = {name: in_a_process([name], args.images)[0] for name in METHODS}
    print(f"{args.images} images, kanoclip-tiny at 128, CPU, CPU seconds; rows: {', '.join(METHODS)}, repeated")
    print(f"{'rows':>4} {'s':>8} {'images/s':>9} {'peak MiB':>9} {'of one row':>11} {'one pass per row':>17}")
    first = 0.0
    for count in args.rows:
        names = [METHODS[number % len(METHODS)] for number in range(count)]
        took, memory = in_a_process(names, args.images)
        first = first or took / count
        separate = sum(alone[name] for name in names)
        print(
            f"{count:4} {took:8.2f} {args.images / took:9.1f} {memory:9.0f} {took / first:10.1f}x"
            f" {separate:9.1f} s {separate / took:4.2f}x"
        )


if __name__ == "__main__":
    main()
