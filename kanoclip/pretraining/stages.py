"""The stages of the image tower's training and the learning rate of each step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kanoclip.pretraining.corpus import IMAGE_SIZE

LEARNING_RATE = 1e-3
WARM_UP = 100  # steps at the start of a stage


@dataclass(frozen=True)
class Stage:
    """A stage of the training.

    Attributes:
        size: pixels per side.
        steps: optimiser steps.
        batch: images per step.
        cost: relative time of a step, for the learning-rate schedule.
        world: the kind of images. "drawn": single drawn images; "mixed": drawn pairs, blended and recoloured far beyond
            what the generator draws; "real": drawn pairs and composites on photographs. The cosine of the learning
            rate restarts in every world.
    """

    size: int
    steps: int
    batch: int
    cost: float
    world: Literal["drawn", "mixed", "real"] = "drawn"


PEAK = {"drawn": LEARNING_RATE, "mixed": LEARNING_RATE, "real": 4e-4}  # learning rate at the start of a cosine


def drawn_stages(small_steps: int, large_steps: int, mixed_steps: int) -> tuple[Stage, ...]:
    """Return the stages on half-size images, on whole images, and on whole images in mixed pairs."""
    return (
        Stage(IMAGE_SIZE // 2, small_steps, 64, 1.0),
        Stage(IMAGE_SIZE, large_steps, 32, 2.2),
        Stage(IMAGE_SIZE, mixed_steps, 32, 2.2, "mixed"),
    )


def real_stages(small_steps: int, large_steps: int, batch: int) -> tuple[Stage, ...]:
    """Return the stages on drawn pairs and composites: half-size views, then whole ones in batches of half the size."""
    return (
        Stage(IMAGE_SIZE // 2, small_steps, batch, 1.0, "real"),
        Stage(IMAGE_SIZE, large_steps, batch // 2, 2.4, "real"),
    )


def learning_rate(schedule: Sequence[Stage], step: int) -> float:
    """Return the learning rate of a step: a cosine to 0 over the stages of a world, with a linear warm-up per stage."""
    within, current = step, schedule[-1]
    for stage in schedule:
        current = stage
        if within < stage.steps:
            break
        within -= stage.steps
    before = schedule[: schedule.index(current)]
    spent = sum(stage.steps * stage.cost for stage in before if stage.world == current.world) + within * current.cost
    total = sum(stage.steps * stage.cost for stage in schedule if stage.world == current.world)
    return PEAK[current.world] * min(1.0, (within + 1) / WARM_UP) * 0.5 * (1 + float(np.cos(np.pi * spent / total)))
