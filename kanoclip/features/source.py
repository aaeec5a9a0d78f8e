"""Where features come from: one protocol for a cache on disk and for a tower that computes them now."""

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import torch

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Features, Tap
from kanoclip.types import InputError

Rows = Sequence[int]
"""Rows of the index, numbered from 0."""


class FeatureSource(Protocol):
    """Features of the images of one dataset.

    Cached and live features of an image are equal: what is computed live is rounded to fp16 as a cache rounds it.

    Attributes:
        backbone: whose features they are; they are given on its device.
    """

    backbone: Backbone

    def require(self, taps: Collection[Tap], wanted_by: str) -> None:
        """Refuse taps that this source cannot give.

        Args:
            taps: what will be read.
            wanted_by: who reads, for the message.

        Raises:
            InputError: the first tap that is missing.
        """

    def stream(self, batches: Sequence[Rows], taps: Collection[Tap]) -> Iterator[Features]:
        """Yield the features of each batch in turn, fp32, on the device of the backbone, the next ones prepared ahead.

        Args:
            batches: rows of the index, batch by batch, in any order.
            taps: what is wanted of each image.
        """


def as_cached(features: Features, where: str = "features") -> Features:
    """Round features to fp16, as a cache holds them.

    Raises:
        InputError: a value is not finite, or too large for fp16.
    """
    rounded = {tap: tensor.to(torch.float16) for tap, tensor in features.items()}
    if rounded:
        finite = torch.stack([torch.isfinite(tensor).all() for tensor in rounded.values()])
        for tap, good in zip(rounded, finite.tolist(), strict=True):  # one wait for the device, not one per tap
            if not good:
                raise InputError(
                    f"{where}: {tap}: not finite, or too large for fp16; use precision fp32 and check the weights"
                )
    return rounded


def as_read(features: Features, device: torch.device) -> Features:
    """Bring cached features to a device, in fp32."""
    return {tap: tensor.to(device, non_blocking=True).float() for tap, tensor in features.items()}
