"""The protocol of feature sources: a cache on disk, or towers that compute features on demand."""

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

    Live features are rounded to fp16 like cached ones, so both agree.

    Attributes:
        backbone: the backbone of the features, which are returned on its device.
    """

    backbone: Backbone

    def require(self, taps: Collection[Tap], wanted_by: str) -> None:
        """Refuse taps that this source cannot provide.

        Args:
            taps: the taps to read.
            wanted_by: the reader, for the message.

        Raises:
            InputError: the first tap that is missing.
        """

    def stream(self, batches: Sequence[Rows], taps: Collection[Tap]) -> Iterator[Features]:
        """Yield the features of each batch in fp32 on the backbone's device, while preparing the next batches.

        Args:
            batches: rows of the index, batch by batch, in any order.
            taps: the taps of each image to return.
        """


def as_cached(features: Features, where: str = "features") -> Features:
    """Round features to fp16, as a cache stores them.

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
    """Move cached features to a device, in fp32."""
    return {tap: tensor.to(device, non_blocking=True).float() for tap, tensor in features.items()}
