"""Train one method on the rows of an index."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from kanoclip.features import FeatureSource, LiveFeatures
from kanoclip.knowledge.jsonl import read_image_knowledge, read_knowledge
from kanoclip.methods import Method
from kanoclip.training import TrainingData, TrainingState, fit
from kanoclip.types import logger


@dataclass(frozen=True)
class Knowledge:
    """Descriptions of anomalies: by class, and by image."""

    classes: dict[str, list[str]]
    images: dict[str, list[str]]

    @classmethod
    def read(cls, path: Path, frame: pd.DataFrame) -> "Knowledge":
        """Read the descriptions for the classes of an index."""
        return cls(read_knowledge(path, frame["class_name"].unique().tolist()), read_image_knowledge(path))


def train(
    method: Method[Any],
    frame: pd.DataFrame,
    source: FeatureSource,
    live: LiveFeatures,
    knowledge: Knowledge,
    state: TrainingState,
) -> str:
    """Train a freshly built method on the rows of an index and return the text of train.csv."""
    backbone = method.backbone
    source.require(method.trains_on(method.options, backbone.shape), f"method {type(method).__name__}")
    method.learn_knowledge(knowledge.classes, knowledge.images)
    data = TrainingData(source, frame, backbone.config.image_size, live, method.options.mask_resize)
    count = size(method.learned().values())
    logger.info("seed %d: %d learnable parameters, %d images", method.seed, count, len(data))
    return fit(method, data, state)


def size(parameters: Iterable[nn.Parameter]) -> int:
    """Return the number of values in some parameters."""
    return sum(parameter.numel() for parameter in parameters)
