"""Training phases: parameters, losses and duration. Most methods have one phase, some have two."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from kanoclip.augmentation import Augmentation
from kanoclip.backbones.taps import Tap
from kanoclip.config import Strict
from kanoclip.methods.batch import Batch

Group = dict[str, Any]
"""A group of parameters for the optimiser: its name, params and lr."""

ADAM_BETAS = (0.5, 0.999)  # of APRIL-GAN and AnomalyCLIP, which most methods follow


@dataclass(frozen=True)
class Schedule:
    """A factor for the learning rates: a linear warm-up, then one of three shapes.

    Attributes:
        shape: constant; cosine, half a period down to 0; or steps, a factor `gamma` at each milestone.
        warm_up_steps: optimiser steps of the linear warm-up.
        milestones: optimiser steps, for `steps`.
        gamma: factor per milestone.
    """

    shape: Literal["constant", "cosine", "steps"] = "constant"
    warm_up_steps: int = 0
    milestones: tuple[int, ...] = ()
    gamma: float = 0.5

    def factor(self, step: int, steps: int) -> float:
        """Return the factor, in 0..1, after `step` of `steps` optimiser steps.

        >>> Schedule("cosine").factor(5, 10)
        0.5
        >>> Schedule("steps", milestones=(3, 6)).factor(6, 10)
        0.25
        """
        factor = min(1.0, (step + 1) / (self.warm_up_steps + 1))
        if self.shape == "cosine":
            factor *= 0.5 * (1 + math.cos(math.pi * step / steps))
        if self.shape == "steps":
            factor *= self.gamma ** sum(step >= milestone for milestone in self.milestones)
        return factor


def adam(groups: Iterable[Group]) -> torch.optim.Optimizer:
    """Return Adam with the betas that most methods use."""
    return torch.optim.Adam(groups, betas=ADAM_BETAS)


@dataclass(frozen=True)
class Phase:
    """A part of a training with its own optimiser.

    Attributes:
        name: for the log; unique within a method.
        losses: returns the weighted terms of a batch's loss by name; their sum is minimised.
        groups: the parameters to optimise, in groups with name, params and lr. All others are frozen.
        epochs: passes over the auxiliary dataset; the last epoch is always used.
        batch_size: images per step.
        optimizer: returns the optimiser of the groups.
        schedule: schedule of the learning rates over the steps of this phase.
        augment: augments images before the towers; such a phase needs live features.
        reads: the taps that `losses` needs; default: those that the method trains on.
    """

    name: str
    losses: Callable[[Batch], Mapping[str, Tensor]]
    groups: list[Group]
    epochs: int
    batch_size: int
    optimizer: Callable[[Iterable[Group]], torch.optim.Optimizer] = adam
    schedule: Schedule = field(default_factory=Schedule)
    augment: Augmentation | None = None
    reads: frozenset[Tap] | None = None

    def steps(self, images: int) -> int:
        """Return the number of optimiser steps on a dataset with this number of images."""
        return self.epochs * math.ceil(images / self.batch_size)


class TrainingOptions(Strict):
    """Common options of methods that are trained in one phase, or whose phases share them."""

    epochs: int = Field(
        15, gt=0, description="passes over the auxiliary dataset, as AnomalyCLIP. The last epoch is always used"
    )
    batch_size: int = Field(8, gt=0, description="images per step, as AnomalyCLIP")
    mask_resize: Literal["nearest", "bilinear"] = Field(
        "nearest",
        description="how masks are resized to the image size. nearest: keeps them binary; bilinear: then thresholded "
        "at 1/2, as the released code of AnomalyCLIP, APRIL-GAN, AdaCLIP and Crane does",
    )
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="learning-rate schedule: constant, as the methods that the paper compares, or cosine"
    )
    warm_up_steps: int = Field(
        0, ge=0, description="steps over which the learning rates rise linearly; no compared method does this"
    )

    def phase(
        self,
        losses: Callable[[Batch], Mapping[str, Tensor]],
        groups: list[Group],
        augment: Augmentation | None = None,
        reads: frozenset[Tap] | None = None,
    ) -> Phase:
        """Return the only phase of a method: Adam on these groups."""
        schedule = Schedule(self.schedule, self.warm_up_steps)
        return Phase("train", losses, groups, self.epochs, self.batch_size, adam, schedule, augment, reads)
