"""Measure how fast images are loaded: the loader and open_clip's transform, threads and processes, other resizers.

python benchmarks/loading.py FOLDER --size 518 --workers 2

FOLDER contains images of any size; some are resized to --side and written as JPEG (RGB) and PNG (RGB and grey).
Rounds alternate between the variants, and each variant reports its fastest round.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from kanoclip.datasets.image_loader import ImageLoader
from kanoclip.datasets.images import load_image, load_square

MEAN, STD = (torch.tensor(values) for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
BATCH, ROUNDS = 8, 4


def main() -> None:
    """Print images per second and per CPU second, and the share of values that differ from open_clip's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=1024, help="side of the images on disk in pixels")
    parser.add_argument("--size", type=int, default=518, help="side of the loaded images in pixels")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        sources = sorted(path for path in args.folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
        for kind, paths in written(sources[:: max(1, len(sources) // args.images)], args, Path(temporary)).items():
            title = f"{kind}, {args.side} to {args.size} pixels"
            print(f"\n{title:42}{'images/s':>9}{'ratio':>8}{'per CPU second':>15}{'differ':>13}")
            report(variants(paths, args.size, args.workers), len(paths))


def written(sources: list[Path], args: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """Write the images to load, and return their paths by kind."""
    paths: dict[str, list[str]] = {"RGB JPEG": [], "RGB PNG": [], "gray PNG": []}
    for number, source in enumerate(sources[: args.images]):
        image = load_image(source).resize((args.side, args.side), Image.Resampling.LANCZOS)
        for kind, found in paths.items():
            path = folder / f"{number}-{kind.replace(' ', '.').lower()}"
            image.convert("L" if "gray" in kind else "RGB").save(path)
            found.append(str(path))
    return paths


def variants(paths: list[str], size: int, workers: int) -> dict[str, Callable[[], Tensor]]:
    """Return several ways to load the same images; each returns (N, 3, S, S) float32."""
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    transform = open_clip.image_transform(size, is_train=False, mean=mean, std=std, resize_mode="squash")
    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    processes = ProcessPoolExecutor(workers)
    list(processes.map(abs, range(workers)))  # start them outside the timed part

    def one_by_one(threads: int) -> Tensor:
        with ThreadPoolExecutor(threads) as pool:
            return torch.stack(list(pool.map(lambda path: transform(load_image(path)), paths)))

    def streamed(threads: int) -> Tensor:
        with ImageLoader(size, threads) as loader:
            return torch.cat([normalise(batch) for batch in loader.stream(batches)])

    def by_processes() -> Tensor:
        loaded = processes.map(partial(load_square, size=size), paths, chunksize=BATCH // workers)
        return torch.cat([normalise(np.stack(batch)) for batch in grouped(loaded)])

    def resized_by_torch() -> Tensor:
        pixels = [torch.from_numpy(np.array(load_image(path))).permute(2, 0, 1)[None] for path in paths]
        small = [F.interpolate(image, (size, size), mode="bicubic", antialias=True) for image in pixels]
        return normalise(torch.cat(small).permute(0, 2, 3, 1).numpy())

    def drafted() -> Tensor:
        return normalise(np.stack([draft(path, size) for path in paths]))

    return {
        "open_clip's transform, 1 thread": lambda: one_by_one(1),
        "loader, 1 thread": lambda: streamed(1),
        f"open_clip's transform, {workers} threads": lambda: one_by_one(workers),
        f"loader, {workers} threads": lambda: streamed(workers),
        f"loader's pixels, {workers} processes": by_processes,
        "resized by torch (antialias), no worker": resized_by_torch,
        "decoded smaller (JPEG draft), no worker": drafted,
    }


def normalise(batch: np.ndarray) -> Tensor:
    """Turn (B, S, S, 3) uint8 into (B, 3, S, S) float32, normalised as `ImageLoader` documents."""
    pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous().float()
    return pixels.div_(255).sub_(MEAN.view(3, 1, 1)).div_(STD.view(3, 1, 1))


def draft(path: str, size: int) -> np.ndarray:
    """Let the JPEG decoder halve the image while it stays larger than the target size."""
    with Image.open(path) as image:
        image.draft("RGB", (size, size))
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))


def grouped(images: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yield batches of images."""
    group: list[np.ndarray] = []
    for image in images:
        group.append(image)
        if len(group) == BATCH:
            yield group
            group = []
    if group:
        yield group


def report(candidates: dict[str, Callable[[], Tensor]], count: int) -> None:
    """Time the variants in turn and print one line for each; all are compared with the first."""
    expected = next(iter(candidates.values()))()
    elapsed = {name: [float("inf")] * 2 for name in candidates}  # least seconds and CPU seconds of all rounds
    differing: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, load in candidates.items():
            started = time.perf_counter(), time.process_time()
            pixels = load()
            taken = time.perf_counter() - started[0], time.process_time() - started[1]
            elapsed[name] = list(map(min, elapsed[name], taken))
            differing[name] = float((pixels != expected).float().mean())
    first = next(iter(elapsed.values()))[0]
    for name, (seconds, cpu_seconds) in elapsed.items():
        per_cpu_second = "-" if "processes" in name else f"{count / cpu_seconds:.1f}"
        print(f"{name:42}{count / seconds:9.1f}{first / seconds:8.2f}{per_cpu_second:>15}{differing[name]:13.2%}")


if __name__ == "__main__":
    main()
