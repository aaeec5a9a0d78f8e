"""Measure `kanoclip predict` with the model in the package: seconds to the first result, images per second by output.

    python benchmarks/predict.py [--images 200] [--side 512]

Each measurement runs in a separate process, on one thread, on generated images of noise. Seconds are CPU seconds, so
other work on the machine does not count; on an idle core they equal wall-clock seconds.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

COMMAND = [sys.executable, "-m", "kanoclip", "predict"]
KINDS = {"scores only": ["--no-pictures"], "with heat maps": [], "with heat and raw maps": ["--maps", "png"]}


def write_images(folder: Path, count: int, side: int) -> None:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        small = generator.integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((side, side)).save(folder / f"{number}.jpg", quality=90)


def used() -> float:
    """Return the CPU seconds of all finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(images: Path, *options: str) -> float:
    with tempfile.TemporaryDirectory() as out:
        start = used()
        subprocess.run(
            [*COMMAND, str(images), "--out", out, "--threads", "1", *options], check=True, capture_output=True
        )
        return used() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=512)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one, many = Path(folder) / "one", Path(folder) / "many"
        write_images(one, 1, arguments.side)
        write_images(many, arguments.images, arguments.side)
        first = min(seconds(one) for _ in range(3))
        print(f"first result after {first:.1f} s")
        for name, options in KINDS.items():
            rate = (arguments.images - 1) / (seconds(many, *options) - first)
            print(f"{name}: {rate:.0f} images/s at {arguments.side} x {arguments.side} pixels")


if __name__ == "__main__":
    main()
