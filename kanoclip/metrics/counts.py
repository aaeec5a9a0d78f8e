"""Pixels counted by the value of their anomaly map: every pixel metric of a class from a few megabytes.

An fp32 number in 0..1 has an exact integer code: its bits up to 0.5 and, counted back from 1, those of 1 - p above it.
So maps that saturate at 1 keep as much of their order as those that saturate at 0. Pixels are counted by this code.
Where the maps of a class span more than 2^20 codes, as many low bits are dropped as needed (11 at most):

- fp16 and bf16 maps lose nothing, fp32 maps of a narrow range neither: their metrics are exact, ties included.
- Else a value p > 2^-126 falls by less than 2^-12 min(p, 1 - p); for maps between 0.001 and 0.999, by 2^-15 of it.
- Rounding ties pixels, it never swaps them. So AUROC moves by at most half the share of the (positive, negative) pairs
  that are tied. F1-max can only fall, and its threshold holds for the fp32 maps as it stands: p is at or above it
  before rounding just when after it.
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
    """The integer code of float32 values in 0..1: strictly monotone, 0 of 0, HALF of 0.5 and 2 HALF of 1."""
    upper = values > 0.5
    bits = torch.where(upper, 1 - values, values).view(torch.int32)  # exact: 1 - p has no more bits than p
    return torch.where(upper, 2 * HALF - bits, bits)


def decode(codes: NDArray[np.integer]) -> NDArray[np.float64]:
    """The values, exact in float64, that codes belong to."""
    values = np.minimum(codes, 2 * HALF - codes).astype(np.int32).view(np.float32).astype(np.float64)
    return np.where(codes > HALF, 1 - values, values)


@dataclass(frozen=True)
class Levels:
    """The values at which the pixels of a class are counted.

    Attributes:
        low: the lowest code of its maps.
        high: the highest.
    """

    low: int
    high: int

    @classmethod
    def between(cls, lowest: float, highest: float) -> "Levels":
        """Levels for maps whose values lie in lowest..highest, within 0..1."""
        low, high = encode(torch.tensor([lowest, highest], dtype=torch.float32)).tolist()
        return cls(low, high)

    @property
    def dropped_bits(self) -> int:
        """Low bits of the code that are not told apart."""
        return max(0, (self.high - self.low).bit_length() - LEVEL_BITS)

    def __len__(self) -> int:
        return (self.high >> self.dropped_bits) - (self.low >> self.dropped_bits) + 1

    def of(self, maps: Tensor) -> Tensor:
        """The level of each value, int32 in 0..len-1. Values are float32; rounding errors beyond the range are cut."""
        codes = encode(maps.clamp(0, 1)).clamp(self.low, self.high)
        return (codes >> self.dropped_bits) - (self.low >> self.dropped_bits)

    def values(self, levels: NDArray[np.integer]) -> NDArray[np.float64]:
        """The lowest value of each level."""
        return decode((levels + (self.low >> self.dropped_bits)) << self.dropped_bits)


@dataclass(frozen=True)
class Counts:
    """Pixels by level; K levels.

    Attributes:
        levels: at which values they are counted.
        positives: (K,) int64, anomalous pixels.
        negatives: (K,) int64, normal pixels.
        weights: (K,) float64, sum of the `region_weights` of the anomalous pixels.
    """

    levels: Levels
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    weights: NDArray[np.float64]

    def merge(self, other: "Counts") -> "Counts":
        """The counts of two parts of a class together.

        Raises:
            ValueError: they were counted at other levels.
        """
        if self.levels != other.levels:
            raise ValueError(f"cannot merge counts at {self.levels} and at {other.levels}")
        return Counts(
            self.levels,
            self.positives + other.positives,
            self.negatives + other.negatives,
            self.weights + other.weights,
        )

    def ranking(self) -> Ranking:
        """What the metrics are computed from.

        Raises:
            UndefinedMetricError: there are no anomalous pixels, or no normal ones.
        """
        found = np.flatnonzero(self.positives + self.negatives)[::-1]
        return Ranking(self.levels.values(found), self.positives[found], self.negatives[found], self.weights[found])


def count(maps: Tensor, masks: NDArray[np.bool_], levels: Levels) -> Counts:
    """Count the pixels of some images. Works where the maps are; regions are labelled on the CPU.

    Args:
        maps: (B, H, W) final anomaly maps, float32.
        masks: (B, H, W) True where anomalous.
        levels: those of the class.
    """
    level = torch.stack([levels.of(anomaly_map) for anomaly_map in maps])  # one map at a time stays in the cache
    size = len(levels)
    total = torch.bincount(level.flatten(), minlength=size).cpu().numpy()
    anomalous = level.cpu().numpy()[masks]
    weights = np.concatenate([region_weights(mask) for mask in masks])
    positives = np.bincount(anomalous, minlength=size)
    of_regions = np.bincount(anomalous, weights, minlength=size).astype(np.float64, copy=False)
    return Counts(levels, positives, total - positives, of_regions)
