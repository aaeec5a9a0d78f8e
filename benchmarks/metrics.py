"""Compare pixel metrics with scikit-learn and a loop over 200 thresholds; measure time and memory at scale.

OMP_NUM_THREADS=1 python benchmarks/metrics.py           # ratios, on 100 maps of 518 x 518
OMP_NUM_THREADS=1 python benchmarks/metrics.py --large   # seconds and peak memory of a class of 3,715 images
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from kanoclip.maps import upsample_and_smooth
from kanoclip.metrics import metrics_of
from kanoclip.metrics.aupro import EIGHT_CONNECTED
from kanoclip.metrics.counts import Counts, Levels, Truth
from kanoclip.metrics.ranking import Ranking, rank

GRID, SIGMA, BATCH = 37, 4.0, 16


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result and its CPU seconds, which include waiting for a GPU but not other work on the machine."""
    started = time.process_time()
    result = function()
    return result, time.process_time() - started


def batches(images: int, size: int, device: str) -> Iterator[tuple[torch.Tensor, NDArray[np.bool_]]]:
    """Yield (B, S, S) fp32 maps of smooth noise, raised under their masks, and masks; one in five images is normal."""
    generator = np.random.default_rng(0)
    for start in range(0, images, BATCH):
        number = np.arange(start, min(start + BATCH, images))
        grids = torch.from_numpy(generator.beta(1, 4, (len(number), GRID, GRID)).astype(np.float32)).to(device)
        masks = np.zeros((len(number), size, size), bool)
        for i in np.flatnonzero(number % 5):
            for y, x in generator.integers(0, size * 3 // 4, (3, 2)):
                masks[i, y : y + size // 10, x : x + size // 8] = True
        maps = upsample_and_smooth(grids, (size, size), SIGMA)
        yield maps + 0.1 * torch.from_numpy(masks).to(device), masks


def threshold_loop(maps: NDArray[np.float32], masks: NDArray[np.bool_], steps: int = 200) -> float:
    """Return AUPRO with 200 thresholds as in published code, but faster, because regions are labelled only once."""
    regions = [(row, labelled == i) for row, mask in enumerate(masks)
               for labelled, n in [label(mask, EIGHT_CONNECTED)] for i in range(1, n + 1)]  # fmt: skip
    curve = []
    for threshold in np.arange(maps.min(), maps.max(), (maps.max() - maps.min()) / steps):
        found = maps > threshold
        overlap = np.mean([found[row][region].mean() for row, region in regions])
        curve.append((found[~masks].mean(), overlap))
    fpr, overlap = np.array([point for point in curve if point[0] < 0.3][::-1]).T
    return float(auc((fpr - fpr[0]) / (fpr[-1] - fpr[0]), overlap))


def compare_speed(images: int, size: int, device: str) -> None:
    """Print seconds, differences and ratios."""
    parts = list(batches(images, size, "cpu"))
    maps, masks = torch.cat([part for part, _ in parts]), np.concatenate([mask for _, mask in parts])
    placed = maps.to(device)

    def ours() -> dict[str, float]:
        levels = Levels.between(placed.min().item(), placed.max().item())
        counts = Counts(levels, device)
        for start in range(0, images, BATCH):
            at = slice(start, start + BATCH)
            counts.add(placed[at], Truth.of(masks[at], device))
        ranking = counts.ranking()
        return {metric.name: metric.compute(ranking) for metric in metrics_of("pixel")}

    ours()  # the first call on a GPU is slow
    values, our_seconds = timed(ours)
    truth, scores = masks.ravel(), maps.numpy().ravel()
    (their_auroc, their_ap), their_seconds = timed(
        lambda: (roc_auc_score(truth, scores), average_precision_score(truth, scores))
    )
    loop, loop_seconds = timed(lambda: threshold_loop(maps.numpy(), masks))
    print(f"{images} maps of {size} x {size}, {torch.get_num_threads()} thread(s), {device}")
    print(f"ours: {', '.join(values)}   {our_seconds:.2f} s")
    print(f"scikit-learn: auroc, ap   {their_seconds:.2f} s, {their_seconds / our_seconds:.0f} times ours; "
          f"off by {abs(values['auroc'] - their_auroc):.1e}, {abs(values['ap'] - their_ap):.1e}")  # fmt: skip
    print(f"200-threshold loop: aupro   {loop_seconds:.2f} s, {loop_seconds / our_seconds:.0f} times ours; "
          f"off by {abs(values['aupro_200'] - loop):.1e}; exact {values['aupro']:.4f}, loop {loop:.4f}")  # fmt: skip


def resample_speed(images: int = 2000, draws: int = 1000) -> None:
    """Print the seconds of an image-level bootstrap."""
    generator = np.random.default_rng(0)
    ranking = rank(generator.normal(1, 1, images // 2), generator.normal(0, 1, images // 2))
    stacks = ranking.resamples(draws, generator)
    _, seconds = timed(lambda: [[metric.of_each(stack) for metric in metrics_of("image")] for _, stack in stacks])
    print(f"{draws} resamples of {images} images   {seconds:.2f} s")


def run_large(images: int, size: int, device: str) -> None:
    """Print seconds and peak memory of one class, with maps generated during the run."""

    def counted() -> Ranking:
        counts = Counts(Levels.between(0.0, 1.0), device)
        for maps, masks in batches(images, size, device):
            counts.add(maps, Truth.of(masks, device))
        return counts.ranking()

    ranking, seconds = timed(counted)
    values, more = timed(lambda: {metric.name: metric.compute(ranking) for metric in metrics_of("pixel")})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{images} maps of {size} x {size}, {images * size**2 / 1e6:.0f} million pixels, {device}")
    print(f"generated, smoothed and counted in {seconds:.0f} s; metrics in {more:.2f} s; peak memory {peak:.2f} GiB")
    print(", ".join(f"{name} {value:.4f}" for name, value in values.items()))


def main() -> None:
    """Run the chosen measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, help="default: 100, or 3715 with --large")
    parser.add_argument("--size", type=int, default=518)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--large", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.large:
        run_large(args.maps or 3715, args.size, args.device)
    else:
        compare_speed(args.maps or 100, args.size, args.device)
        resample_speed()


if __name__ == "__main__":
    main()
