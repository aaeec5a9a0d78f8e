"""Train a method on an auxiliary dataset, with one seed after the other, from features read once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from kanoclip.checkpoints import save_checkpoint
from kanoclip.config import parse
from kanoclip.datasets.index import content
from kanoclip.features import FeatureSource, LiveFeatures
from kanoclip.files import write_text
from kanoclip.knowledge.store import read_image_knowledge, read_knowledge
from kanoclip.methods import Method, method_class
from kanoclip.stages.code import training_code
from kanoclip.stages.dataset import Dataset
from kanoclip.store import Store, fingerprint
from kanoclip.training import TrainingData, TrainingState, check_trainable, fit
from kanoclip.types import InputError, logger

CHECKPOINT, CURVES, STATE = "checkpoint.safetensors", "train.csv", "state.pt"


@dataclass(frozen=True)
class Knowledge:
    """Descriptions of anomalies: by class, and by image."""

    classes: dict[str, list[str]]
    images: dict[str, list[str]]

    @classmethod
    def read(cls, path: Path, frame: pd.DataFrame) -> "Knowledge":
        """Read what is known about the classes of an index."""
        return cls(read_knowledge(path, frame["class_name"].unique().tolist()), read_image_knowledge(path))


def train_stage(
    name: str,
    options: dict[str, Any],
    auxiliary: Dataset,
    knowledge: Path,
    out: Path,
    seeds: Sequence[int],
    device: str,
    store: Path,
) -> None:
    """Train a method and write checkpoint and loss curves of every seed.

    A seed that was trained already under the same conditions is taken from the store; a training that was cut off goes
    on after its last whole epoch.

    Args:
        name: the registered method.
        options: as written in the configuration.
        auxiliary: the dataset to train on.
        knowledge: its knowledge.jsonl.
        out: the folder for seed<n>/checkpoint.safetensors and seed<n>/train.csv.
        seeds: each of the initial parameters and the order of the images.
        device: where to compute.
        store: folder of finished results.

    Raises:
        InputError: an input does not fit; nothing is written.
    """
    kind = method_class(name)
    if not kind.trainable:
        raise InputError(f"method {name} is not trained; score with it directly")
    settings = parse(kind.Options, options, f"options of {name}")
    frame = auxiliary.frame()
    check_trainable(frame, auxiliary.index)
    known = Knowledge.read(knowledge, frame)
    record = {"method": name, "options": settings.model_dump(mode="json"), "auxiliary": auxiliary.name}
    depends = {
        "stage": "train",
        "backbone": auxiliary.provenance(frame),
        "content": content(frame),
        "knowledge": [known.classes, known.images],
        "code": training_code(kind),
    }
    results = Store(store)
    keys = {seed: fingerprint(**depends, record=record, seed=seed) for seed in seeds}
    outputs = {seed: {file: out / f"seed{seed}" / file for file in (CHECKPOINT, CURVES)} for seed in seeds}
    todo = [seed for seed in seeds if not results.fetch(keys[seed], outputs[seed])]
    logger.info("%s on %s: %d of %d seeds to train", name, auxiliary.name, len(todo), len(seeds))
    if not todo:
        return
    backbone, source, live = auxiliary.open(device, frame)
    for seed in todo:
        folder = results.partial(keys[seed])
        torch.manual_seed(seed)
        method = kind(backbone, settings, seed).to(device)
        text = train(method, frame, source, live, known, TrainingState(folder / STATE, keys[seed]))
        write_text(folder / CURVES, text)
        save_checkpoint(folder / CHECKPOINT, method, {**record, "seed": seed})
        results.keep(keys[seed], {file: folder / file for file in (CHECKPOINT, CURVES)})
        results.fetch(keys[seed], outputs[seed])
    results.sweep()


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
