"""Count pixels by their map value, so that all pixel metrics of a class need only a few megabytes.

An fp32 number p in 0..1 has an exact integer code: its bits if p <= 0.5, otherwise a code counted down from that of 1
by the bits of 1 - p. So maps that saturate at 1 keep as fine an order as those that saturate at 0. Pixels are counted
by this code. If the maps of a class span more than 2^20 codes, low bits are dropped as needed (11 at most):

- The metrics of fp16 and bf16 maps, and of fp32 maps with a narrow range, are exact, ties included.
- Otherwise a value p > 2^-126 is rounded down by less than 2^-12 min(p, 1 - p), or, for maps between 0.001 and 0.999,
  by less than 2^-15 min(p, 1 - p).
- Rounding can tie pixels but never swaps them. So AUROC changes by at most half the share of (positive, negative)
  pairs that become tied. F1-max can only decrease, and its threshold is valid for the fp32 maps too: a pixel is at or
  above it before rounding if and only if it is after rounding.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanoclip.metrics.aupro import region_weights
from kanoclip.metrics.ranking import Ranking

LEVEL_BITS = 20
HALF = 0x3F000000  # the bits, and the code, of 0.5


def encode(values: Tensor) -> Tensor:
    """Return the integer codes of float32 values in 0..1, which increase strictly with the value.

    >>> encode(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0, HALF, 2 * HALF]
    True
    """
    bits = torch.minimum(values, 1 - values).view(torch.int32)  # exact: above 0.5, 1 - p has no more bits than p
    return bits.sub_((values > 0.5).to(torch.int32).mul_(2 * HALF)).abs_()  # several times as fast as torch.where


def decode(codes: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the exact float64 values of codes.

    >>> decode(np.array([0, HALF, 2 * HALF])).tolist()
    [0.0, 0.5, 1.0]
    """
    values = np.minimum(codes, 2 * HALF - codes).astype(np.int32).view(np.float32).astype(np.float64)
    return np.where(codes > HALF, 1 - values, values)


@dataclass(frozen=True)
class Levels:
    """The distinct values by which the pixels of a class are counted.

    Attributes:
        low: the lowest code of its maps.
        high: the highest.
    """

    low: int
    high: int

    @classmethod
    def between(cls, lowest: float, highest: float) -> "Levels":
        """Return levels for maps whose values lie in lowest..highest, within 0..1."""
        low, high = encode(torch.tensor([lowest, highest], dtype=torch.float32)).tolist()
        return cls(low, high)

    @property
    def dropped_bits(self) -> int:
        """Number of low bits of a code that are ignored."""
        return max(0, (self.high - self.low).bit_length() - LEVEL_BITS)

    def __len__(self) -> int:
        return (self.high >> self.dropped_bits) - (self.low >> self.dropped_bits) + 1

    def of(self, maps: Tensor) -> Tensor:
        """Return the level of each float32 value, int32 in 0..len-1. Values beyond the range (rounding) are clipped."""
        codes = encode(maps.clamp(0, 1)).clamp_(self.low, self.high)
        return codes.bitwise_right_shift_(self.dropped_bits).sub_(self.low >> self.dropped_bits)

    def values(self, levels: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the lowest value of each level."""
        return decode((levels + (self.low >> self.dropped_bits)) << self.dropped_bits)


@dataclass(frozen=True)
class Truth:
    """The anomalous pixels of some images, which are the same for the maps of every method.

    Attributes:
        pixels: (P,) int64, their indices in the flattened (B, H, W) masks, on the device of the maps.
        weights: (P,) float64, their `region_weights`.
    """

    pixels: Tensor
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, masks: NDArray[np.bool_], device: str = "cpu") -> "Truth":
        """Find the anomalous pixels and their regions, which are labelled on the CPU.

        Args:
            masks: (B, H, W) True where anomalous.
            device: where the maps will be.
        """
        pixels = torch.from_numpy(np.flatnonzero(masks)).to(device)
        return cls(pixels, np.concatenate([region_weights(mask) for mask in masks]))


class Counts:
    """Pixel counts per level, accumulated batch by batch; K levels.

    Attributes:
        levels: the values at which pixels are counted.
        positives: (K,) int64, the number of anomalous pixels.
        weights: (K,) float64, the sum of the `region_weights` of the anomalous pixels.

    >>> counts = Counts(Levels.between(0.25, 0.75))
    >>> masks = np.array([[[True, False], [False, False]]])
    >>> counts.add(torch.tensor([[[0.75, 0.25], [0.5, 0.25]]]), Truth.of(masks))
    >>> ranking = counts.ranking()
    >>> ranking.thresholds.tolist(), ranking.positives.tolist(), ranking.negatives.tolist()
    ([0.75, 0.5, 0.25], [1, 0, 0], [0, 1, 2])
    """

    def __init__(self, levels: Levels, device: str = "cpu"):
        self.levels = levels
        self.positives = np.zeros(len(levels), np.int64)
        self.weights = np.zeros(len(levels))
        self._total = torch.zeros(len(levels), dtype=torch.int64, device=device)  # anomalous and normal

    @property
    def negatives(self) -> NDArray[np.int64]:
        """(K,) int64, the number of normal pixels."""
        return self._total.cpu().numpy() - self.positives

    def add(self, maps: Tensor, truth: Truth) -> None:
        """Count the pixels of some images.

        Args:
            maps: (B, H, W) final anomaly maps, float32, on the device of these counts.
            truth: ground truth of the same images.
        """
        level = torch.stack([self.levels.of(one) for one in maps]).flatten()  # map by map, which fits the CPU cache
        self._total += torch.bincount(level, minlength=len(self.levels))
        anomalous = level[truth.pixels].cpu().numpy()
        np.add.at(self.positives, anomalous, 1)
        self.weights += np.bincount(anomalous, truth.weights, minlength=len(self.levels))

    def ranking(self) -> Ranking:
        """Return the ranking that the metrics are computed from.

        Raises:
            UndefinedMetricError: there are no anomalous pixels, or no normal ones.
        """
        total = self._total.cpu().numpy()
        found = np.flatnonzero(total > 0)[::-1]
        positives = self.positives[found]
        return Ranking(self.levels.values(found), positives, total[found] - positives, self.weights[found])
