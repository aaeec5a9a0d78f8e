"""Measure a GPU with the paper's configuration, within 8 minutes and without network; print a table and write JSON.

python benchmarks/gpu.py --out gpu.json                     # ViT-L/14 at 518 pixels, random weights
OMP_NUM_THREADS=1 python benchmarks/gpu.py --small          # kanoclip-tiny at 128 on the CPU: tests the script

kanoclip.backbones.cost counts operations, and shares are of the bf16 peak that this script measures; TF32 is off.
"""

import argparse
import csv
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import HEAD, Report, seconds, wait, write_images

from kanoclip.backbones.clip import load_backbone
from kanoclip.backbones.cost import tap_values, tower_operations
from kanoclip.backbones.taps import Tap
from kanoclip.checkpoints import save_checkpoint
from kanoclip.config import BackboneConfig, parse
from kanoclip.datasets.image_loader import ImageLoader
from kanoclip.datasets.index import read_index
from kanoclip.features import CachedFeatures, FeatureCache, LiveFeatures, encode
from kanoclip.methods import Batch, Method, method_class
from kanoclip.scoring import Scorer, ScoresInProgress, run_pass, score
from kanoclip.stages.fitting import Knowledge, train
from kanoclip.stages.scoring import Scored
from kanoclip.training import TrainingState

METHODS = ("clip", "clip_ac", "april_gan", "anomalyclip", "mvfa", "kanoclip", "winclip")
TRAINED = tuple(name for name in METHODS if method_class(name).trainable)
SMALL = {"model": "kanoclip-tiny", "weights": "embedded", "image_size": 128, "images": 8, "batches": [1, 4]}
SMALL_OPTIONS = {"kanoclip": {"width": 64, "heads": 4, "bottleneck": 32}}
PAPER_IMAGES, PAPER_EPOCHS = 1725, 15  # images of MVTec-AD's test split, and epochs of KAnoCLIP


class Bench:
    """A backbone, images on disk and one row per method, for the sections below."""

    def __init__(self, args: argparse.Namespace, folder: Path):
        self.args, self.folder, self.device = args, folder, torch.device(args.device)
        self.config = BackboneConfig(model=args.model, weights=args.weights, image_size=args.image_size)
        self.report = Report(args.budget, self.device)
        self.backbone = load_backbone(self.config, self.device)
        self.index = write_images(folder, args.images)
        self.frame = read_index(self.index)
        self.options = SMALL_OPTIONS if args.small else {}
        self.batch = max(size for size in args.batches if size <= 32)

    def taps(self, names: Sequence[str]) -> frozenset[Tap]:
        """Return the taps that some methods read."""
        kinds = {name: method_class(name) for name in names}
        options = {name: parse(kind.Options, self.options.get(name, {}), name) for name, kind in kinds.items()}
        return frozenset().union(*(kinds[name].reads(options[name], self.backbone.shape) for name in names))

    def operations(self, taps: frozenset[Tap]) -> float:
        """Return the number of operations per image."""
        patch = self.backbone.clip.visual.patch_size[0]
        return tower_operations([str(tap) for tap in taps], self.backbone.shape, patch)

    def rows(self, names: Sequence[str]) -> list[Scored]:
        """Return rows with untrained checkpoints, with one row per seed for trainable methods."""
        rows = []
        for name in names:
            options = self.options.get(name, {})
            for seed in range(self.args.seeds if name in TRAINED else 1):
                checkpoint = self.folder / f"{name}{seed}.safetensors" if name in TRAINED else None
                if checkpoint is not None and not checkpoint.exists():
                    torch.manual_seed(seed)
                    method = method_class(name)(self.backbone, parse(method_class(name).Options, options, name), seed)
                    record = {"method": name, "options": method.options.model_dump(mode="json")}
                    save_checkpoint(checkpoint, method, {**record, "auxiliary": "none", "seed": seed})
                rows.append(Scored(name, name, self.folder, options, checkpoint, seed))
        return rows


def peak(bench: Bench) -> None:
    """Measure bf16 matrix multiplication on the card, the best of several sizes."""
    best = 0.0
    for size in (256, 512) if bench.args.small else (4096, 8192, 12288, 16384):
        bench.report.check_time()
        a, b = (torch.randn(size, size, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
        best = max(best, 2 * size**3 / seconds(lambda a=a, b=b: a @ b, bench.device, 10) / 1e12)
    bench.report.add("bf16 matmul", best, "TFLOP/s")


def tower(bench: Bench, compiled: bool) -> None:
    """Measure images per second of the image tower and its share of the peak."""
    report, backbone = bench.report, bench.backbone
    vv = frozenset(Tap("vv", tap) for tap in backbone.quarters)
    wanted = {"original": frozenset({Tap("tokens", backbone.layers)}), "4 V-V taps": vv, "all": bench.taps(METHODS)}
    if compiled:
        torch._dynamo.config.recompile_limit = 64  # one per batch size and window size
        for block in backbone.blocks:
            block.compile(dynamic=False)
    try:
        for name, taps in wanted.items():
            for size in bench.args.batches:
                report.check_time()
                pixels = torch.randn(size, 3, *(bench.config.image_size,) * 2, device=bench.device)
                started = time.perf_counter()
                backbone.encode_images(pixels, taps)
                wait(bench.device)
                first = time.perf_counter() - started
                rate = size / seconds(lambda p=pixels, t=taps: backbone.encode_images(p, t), bench.device, 2)
                report.add(f"{name}, batch {size}", rate, "images/s")
                if compiled:
                    report.add(f"{name}, batch {size}, first call", first, "s")
                top = report.find("peak", "bf16 matmul")
                if top is not None:
                    share = 100 * rate * bench.operations(taps) / 1e12 / top
                    report.add(f"{name}, batch {size}, share of peak", share, "%", ">= 40")
    finally:
        for block in backbone.blocks:
            block._compiled_call_impl = None


def whole_pass(bench: Bench) -> None:
    """Measure a pass of all methods on images from disk and its parts; then without WinCLIP, which takes most time."""
    report, args = bench.report, bench.args
    paths = bench.frame["image_path"].tolist()
    batches = [paths[start : start + bench.batch] for start in range(0, len(paths), bench.batch)]
    report.check_time()
    with ImageLoader(bench.config.image_size, args.workers) as loader:
        loading = seconds(lambda: [len(batch) for batch in loader.stream(batches)], torch.device("cpu"), 1)
    report.add(f"loading alone, {args.workers} threads", len(paths) / loading, "images/s")
    for title, names in {"all methods": METHODS, "without winclip": METHODS[:-1]}.items():
        report.check_time()
        taps, top = bench.taps(names), report.find("peak", "bf16 matmul")
        if top is not None:
            report.add(f"{title}: towers at the peak", top * 1e12 / bench.operations(taps), "images/s")
        pixels = torch.randn(bench.batch, 3, *(bench.config.image_size,) * 2, device=bench.device)
        alone = seconds(lambda p=pixels, t=taps: bench.backbone.encode_images(p, t), bench.device, 1) / bench.batch
        rows = bench.rows(names)
        live = LiveFeatures(bench.frame, bench.backbone, args.workers)
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            states = [ScoresInProgress(_new(Path(folder) / str(number)), bench.frame) for number in range(len(rows))]
            scorers = [Scorer(row.build(bench.backbone), state) for row, state in zip(rows, states, strict=True)]
            score(scorers[0].method, live, bench.frame.iloc[: bench.batch])
            wait(bench.device)
            started = time.perf_counter()
            run_pass(scorers, live, bench.frame, bench.batch)
            whole = time.perf_counter() - started
            started = time.perf_counter()
            for scorer in scorers:
                scorer.scores.finish(Path(folder) / "scores.h5", {}, scorer.method.after_class)
            writing = time.perf_counter() - started
        report.add(f"{title}: {len(rows)} rows and seeds", len(paths) / (whole + writing), "images/s", ">= 150")
        report.add(f"{title}: loading alone", 1000 * loading / len(paths), "ms/image")
        report.add(f"{title}: towers alone", 1000 * alone, "ms/image")
        report.add(f"{title}: methods", 1000 * sum(state.seconds for state in states) / len(paths), "ms/image")
        report.add(f"{title}: writing scores.h5", 1000 * writing / len(paths), "ms/image")


def methods(bench: Bench) -> None:
    """Measure milliseconds per image of each method, with features at batch 1 and without at a large batch."""
    live = LiveFeatures(bench.frame, bench.backbone)
    with ImageLoader(bench.config.image_size) as loader:
        images = next(loader.stream([bench.frame["image_path"].tolist()[: bench.batch]]))
    names = [str(number) for number in range(len(images))], ["part"] * len(images)

    def one(method: Method[Any], taps: frozenset[Tap]) -> object:
        return method(Batch(["0"], ["part"], live.of_images(images[:1], taps)))

    for row in (row for row in bench.rows(METHODS) if row.seed == 0):
        bench.report.check_time()
        method, taps = row.build(bench.backbone).eval(), bench.taps([row.method])
        with torch.no_grad():
            single = seconds(partial(one, method, taps), bench.device)
            batch = Batch(*names, live.of_images(images, taps))
            many = seconds(partial(method, batch), bench.device)
        bench.report.add(row.method, 1000 * single, "ms/image")
        bench.report.add(f"forward of {row.method}", 1000 * many / len(images), "ms/image")


def training(bench: Bench) -> None:
    """Measure seconds per epoch with cached features on the device, from the second of two epochs."""
    frame = bench.frame.iloc[:64]
    kinds = {name: method_class(name) for name in TRAINED}
    options = {name: parse(kinds[name].Options, bench.options.get(name, {}) | {"epochs": 2}, name) for name in TRAINED}
    taps = frozenset().union(*(kinds[name].trains_on(options[name], bench.backbone.shape) for name in TRAINED))
    bench.report.check_time()
    encode(bench.index, bench.backbone, taps, bench.folder / "features.h5", bench.batch, bench.args.workers)
    source = CachedFeatures(FeatureCache(bench.folder / "features.h5", bench.frame), bench.backbone, keep=True)
    live, known = LiveFeatures(bench.frame, bench.backbone), Knowledge({"part": ["a part with a crack"]}, {})
    for name in TRAINED:
        bench.report.check_time()
        torch.manual_seed(0)
        method = kinds[name](bench.backbone, options[name], 0).to(bench.device)
        text = train(method, frame, source, live, known, TrainingState(bench.folder / f"{name}.pt", ""))
        times = {row["epoch"]: float(row["seconds"]) for row in csv.DictReader(io.StringIO(text))}  # ends of epochs
        epoch = (times["2"] - times["1"]) / len(frame) * PAPER_IMAGES
        bench.report.add(f"{name}, epoch of {PAPER_IMAGES} images, extrapolated", epoch, "s")
        if name == "kanoclip":
            bench.report.add(f"{name}, {PAPER_EPOCHS} epochs, extrapolated", epoch * PAPER_EPOCHS, "s", "<= 120")


def start_up(bench: Bench) -> None:
    """Measure the seconds of a new process until the tower has encoded its first batch."""
    code = (
        "import sys; from kanoclip.backbones.clip import load_backbone; from kanoclip.backbones.taps import Tap\n"
        "from kanoclip.config import BackboneConfig; from kanoclip.features import LiveFeatures\n"
        "from kanoclip.datasets.index import read_index; frame = read_index(__import__('pathlib').Path(sys.argv[1]))\n"
        "backbone = load_backbone(BackboneConfig.model_validate_json(sys.argv[2]), sys.argv[3])\n"
        "taps = [Tap('tokens', backbone.layers)]\n"
        "next(LiveFeatures(frame, backbone).stream([range(4)], taps))[taps[0]].sum().item()\n"
    )
    command = [sys.executable, "-c", code, str(bench.index), bench.config.model_dump_json(), str(bench.device)]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    bench.report.add("import, backbone, first batch of 4", time.perf_counter() - started, "s", "<= 6")


def agreement(bench: Bench) -> None:
    """Measure differences of scores between the device and fp32 on the CPU; a CPU is compared in bf16."""
    exact = load_backbone(bench.config.model_copy(update={"precision": "fp32"}), "cpu")
    other = bench.backbone
    if bench.device.type == "cpu":
        other = load_backbone(bench.config.model_copy(update={"precision": "bf16"}), "cpu")
    frame = bench.frame.iloc[:2]
    for row in bench.rows(METHODS):
        if row.seed == 0:
            bench.report.check_time()
            found = [score(row.build(one), LiveFeatures(bench.frame, one), frame) for one in (exact, other)]
            for part, a, b in zip(("map", "image score"), *found, strict=True):
                bench.report.add(f"{row.method}, {part}, largest difference", float(np.abs(a - b).max()))
                bench.report.add(f"{row.method}, {part}, mean difference", float(np.abs(a - b).mean()))


def rates(bench: Bench) -> None:
    """Compute the entries of kanoclip/rates.yaml: towers, and every method for tokens of 10^6 values."""
    report, million = bench.report, (tap_values("tokens/1", bench.backbone.shape) or 0) / 1e6
    speed = [report.find("tower", f"original, batch {size}") or 0.0 for size in bench.args.batches]
    if any(speed):
        original = frozenset({Tap("tokens", bench.backbone.layers)})
        report.add("towers", max(speed) * bench.operations(original) / 1e9, "GFLOP/s")
    for name in METHODS:
        forward = report.find("methods", f"forward of {name}")
        epoch = report.find("training", f"{name}, epoch of {PAPER_IMAGES} images, extrapolated")
        if forward is not None:
            report.add(f"scoring, {name}", forward / 1000 / million, "s")
        if epoch is not None:
            report.add(f"training, {name}", epoch / PAPER_IMAGES / million, "s")


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> None:
    """Measure all sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-L-14-336-quickgelu")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--image-size", type=int, default=518)
    parser.add_argument("--images", type=int, default=256, help="number of images on disk, of 1,024 pixels")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds per trainable method")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--budget", type=float, default=420.0, help="seconds after which no measurement starts")
    parser.add_argument("--workers", type=int, default=8, help="threads that load images")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="kanoclip-tiny at 128 pixels on the CPU, 8 images")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    if "--small" in sys.argv:
        parser.set_defaults(**SMALL, device="cpu", workers=1)
    args = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    name = torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else "CPU"
    settings = {**{key: str(value) for key, value in vars(args).items()}, "card": name, "torch": torch.__version__}
    print(f"{args.model} at {args.image_size} px, {name}, torch {torch.__version__}\n{HEAD}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, Path(folder))
        sections: dict[str, Any] = {
            "peak": peak,
            "tower": lambda bench: tower(bench, compiled=False),
            "start-up": start_up,
            "pass": whole_pass,
            "methods": methods,
            "training": training,
            "agreement": agreement,
            "rates": rates,
            "compiled": lambda bench: tower(bench, compiled=True),
        }
        for title, measure in sections.items():
            bench.report.section(title, partial(measure, bench))
            bench.report.write(args.out, settings)


if __name__ == "__main__":
    main()
