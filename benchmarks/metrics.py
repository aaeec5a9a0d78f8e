"""Pixel AUROC, AP, F1-max and AUPRO against scikit-learn and the 200-threshold loop, on the same maps in one run.

OMP_NUM_THREADS=1 python benchmarks/metrics.py --maps 20 --size 518
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, label
from sklearn.metrics import average_precision_score, roc_auc_score

from kanoclip.metrics.aupro import aupro, region_weights
from kanoclip.metrics.classification import auroc, average_precision, f1_max
from kanoclip.metrics.ranking import rank


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """A result and the seconds it took."""
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started


def sample(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, S, S) float32 maps of smooth noise, raised where the masks are; half of the images are normal."""
    rng = np.random.default_rng(0)
    maps = np.stack([gaussian_filter(rng.random((size, size)), 4) for _ in range(count)]).astype(np.float32)
    masks = np.zeros((count, size, size), bool)
    for mask in masks[::2]:
        for _ in range(3):
            y, x = rng.integers(0, size * 3 // 4, 2)
            mask[y : y + size // 10, x : x + size // 8] = True
    return maps + 0.03 * masks, masks


def threshold_loop(maps: np.ndarray, masks: np.ndarray, steps: int = 200) -> float:
    """AUPRO as in cflow-ad's lineage: regions labelled once here, which is already kinder than the original."""
    regions = [(row, labelled == i) for row, mask in enumerate(masks)
               for labelled, n in [label(mask, np.ones((3, 3)))] for i in range(1, n + 1)]  # fmt: skip
    curve = []
    for threshold in np.linspace(maps.min(), maps.max(), steps):
        found = maps > threshold
        overlap = np.mean([found[row][region].mean() for row, region in regions])
        curve.append((found[~masks].mean(), overlap))
    fpr, pro = np.array([point for point in curve if point[0] < 0.3][::-1]).T
    return float(np.trapezoid(pro, fpr) / fpr.max())


def main() -> None:
    """Print seconds, differences and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=20)
    parser.add_argument("--size", type=int, default=518)
    args = parser.parse_args()
    maps, masks = sample(args.maps, args.size)

    def ours() -> tuple[float, float, float, float]:
        weights = np.concatenate([region_weights(mask) for mask in masks])
        ranking = rank(maps[masks], maps[~masks], weights)
        return auroc(ranking), average_precision(ranking), f1_max(ranking), aupro(ranking)

    (our_auroc, our_ap, _, our_aupro), our_seconds = timed(ours)
    truth, scores = masks.ravel(), maps.ravel()
    (their_auroc, their_ap), their_seconds = timed(
        lambda: (roc_auc_score(truth, scores), average_precision_score(truth, scores))
    )
    loop, loop_seconds = timed(lambda: threshold_loop(maps, masks))
    print(f"{args.maps} maps of {args.size} x {args.size}")
    print(f"ours: AUROC, AP, F1-max, AUPRO     {our_seconds:7.2f} s")
    print(f"scikit-learn: AUROC, AP            {their_seconds:7.2f} s   {their_seconds / our_seconds:.0f} times ours;"
          f" differences {abs(our_auroc - their_auroc):.1e}, {abs(our_ap - their_ap):.1e}")  # fmt: skip
    print(f"200 thresholds: AUPRO              {loop_seconds:7.2f} s   {loop_seconds / our_seconds:.0f} times ours;"
          f" exact {our_aupro:.4f}, 200 thresholds {loop:.4f}")  # fmt: skip


if __name__ == "__main__":
    main()
