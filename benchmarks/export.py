"""Compare images per second of an exported method with PyTorch, on the CPU with the same number of threads.

python benchmarks/export.py --method clip --threads 1

Rounds alternate between the two, and each reports its fastest. Images are in memory, so only computation is timed.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from kanoclip.stages.export import INPUT, Detector, Source, export

BACKBONE = {"model": "kanoclip-tiny", "weights": "embedded", "image_size": 128}
ROUNDS = 5


def main() -> None:
    """Print images per second of both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="clip")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    source = Source(method=args.method)
    detector = Detector(source.build(BACKBONE), "bolt")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(source, "bolt", path, BACKBONE)
        print(f"{args.method}, {path.stat().st_size / 1e6:.1f} MB, {args.threads} threads")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    print(f"{'batch':>6}{'PyTorch images/s':>18}{'ONNX images/s':>15}{'ratio':>7}")
    for count in args.batches:
        images = np.random.default_rng(0).integers(0, 256, (count, detector.size, detector.size, 3), dtype=np.uint8)
        pytorch, onnx = fastest(detector, session, images)
        print(f"{count:6}{count / pytorch:18.1f}{count / onnx:15.1f}{pytorch / onnx:7.2f}")


def fastest(detector: Detector, session: onnxruntime.InferenceSession, images: np.ndarray) -> tuple[float, float]:
    """Return the seconds of the fastest round of each, after one warm-up round."""
    with torch.inference_mode():
        candidates = (lambda: detector(torch.from_numpy(images)), lambda: session.run(None, {INPUT: images}))
        best = [float("inf")] * 2
        for number in range(ROUNDS + 1):
            for at, run in enumerate(candidates):
                started = time.perf_counter()
                run()
                if number:
                    best[at] = min(best[at], time.perf_counter() - started)
    return best[0], best[1]


if __name__ == "__main__":
    main()
