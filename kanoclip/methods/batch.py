"""The input of a method, a batch of images, and its output, anomaly maps and scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kanoclip.backbones.taps import Features


@dataclass(frozen=True)
class Batch:
    """The input of a method for B images.

    Attributes:
        images: (B,) names as in index.csv.
        class_names: (B,) names for the prompts.
        features: the taps that the method reads, each (B, ...) in fp32.
        labels: (B,) 0 normal, 1 anomalous; only in training and for controls.
        masks: (B, S, S) bool at the image size, all False for normal images; only in training and for controls.
    """

    images: Sequence[str]
    class_names: Sequence[str]
    features: Features
    labels: Tensor | None = None
    masks: Tensor | None = None

    @property
    def truth(self) -> tuple[Tensor, Tensor]:
        """Labels (B,) and masks (B, S, S) as fp32; only in training and for controls."""
        if self.labels is None or self.masks is None:
            raise ValueError("labels and masks are known in training only")
        return self.labels.float(), self.masks.float()


@dataclass(frozen=True)
class AnomalyOutput:
    """The output of a method for B images.

    Attributes:
        map: (B, h, w) anomaly maps in 0..1, higher is more anomalous, before smoothing.
        image_score: (B,) in 0..1, by which images are ranked.
    """

    map: Tensor
    image_score: Tensor


@dataclass(frozen=True)
class ClassScores:
    """Final scores of a class, computed from all of its images. For transductive rows only.

    Attributes:
        scale: factor for the maps.
        shift: added to the scaled maps, which must lie in 0..1.
        image_score: (n,) in 0..1, for the images of the class.
    """

    scale: float
    shift: float
    image_score: NDArray[np.float32]
