"""The stages that join several rooms: train and score."""

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.backbones.streams import Streams
from kanoclip.checkpoints import load_method, read_record, save_checkpoint
from kanoclip.config import BackboneConfig, Strict, parse
from kanoclip.datasets.index import read_index
from kanoclip.features import FeatureCache
from kanoclip.files import write_text
from kanoclip.knowledge.store import read_image_knowledge, read_knowledge
from kanoclip.methods import Method, method_class
from kanoclip.methods.base import TrainingOptions
from kanoclip.protocol import NO_AUXILIARY
from kanoclip.scoring import score, write_scores
from kanoclip.training import TrainingData, check_trainable, fit
from kanoclip.training.state import TrainingState
from kanoclip.types import InputError, logger


@dataclass(frozen=True)
class EncodedDataset:
    """A dataset whose features are cached.

    Attributes:
        name: as the tables should call it.
        index: its index.csv.
        features: its features.h5.
    """

    name: str
    index: Path
    features: Path

    def open(self, device: str) -> tuple[pd.DataFrame, FeatureCache, Backbone]:
        """The index, the cache that belongs to it, and the backbone that the cache was made with."""
        frame = read_index(self.index)
        cache = FeatureCache(self.features, frame["image"].tolist())
        config = parse(BackboneConfig, cache.provenance["backbone"], str(self.features))
        return frame, cache, load_backbone(config, device)


def train_stage(
    name: str,
    options: dict[str, Any],
    auxiliary: EncodedDataset,
    knowledge: Path,
    out: Path,
    log: Path,
    seed: int,
    device: str,
) -> None:
    """Train a method from cached features and write its checkpoint and loss curves.

    Args:
        name: the registered method.
        options: as written in the configuration.
        auxiliary: the dataset to train on.
        knowledge: its knowledge.jsonl.
        out: the checkpoint.
        log: train.csv. While the training runs, its state after the last whole epoch is in `<log>.partial`: a training
            that was cut off goes on from there.
        seed: of the initial parameters and the order of the images.
        device: where to compute.

    Raises:
        InputError: an input does not fit; nothing is written.
    """
    kind = method_class(name)
    if not kind.trainable:
        raise InputError(f"method {name} is not trained; score with it directly")
    settings = parse(kind.Options, options, f"options of {name}")
    assert isinstance(settings, TrainingOptions)
    frame, cache, backbone = auxiliary.open(device)
    check_trainable(frame, auxiliary.index)
    streams = _required(kind, settings, backbone, cache)
    texts, of_images = read_knowledge(knowledge, frame["class_name"].unique().tolist()), read_image_knowledge(knowledge)
    torch.manual_seed(seed)
    method = kind(backbone, settings, seed).to(device)
    method.learn_knowledge(texts, of_images)
    count = _size(method.learned().values())
    logger.info("%s: %d learnable parameters, %d images of %s", name, count, len(frame), auxiliary.name)
    record = {"method": name, "options": settings.model_dump(mode="json"), "auxiliary": auxiliary.name, "seed": seed}
    everything = [record, cache.provenance, frame["image"].tolist(), texts, of_images]
    fingerprint = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
    state = TrainingState(log.with_name(f"{log.name}.partial"), fingerprint)
    data = TrainingData(cache, frame, streams, backbone.config.image_size, backbone.device)
    write_text(log, fit(method, data, settings, state))
    save_checkpoint(out, method, record)
    state.forget()


def score_stage(
    name: str,
    options: dict[str, Any],
    target: EncodedDataset,
    out: Path,
    checkpoint: Path | None,
    seed: int,
    device: str,
    row: str | None = None,
    backbone_name: str | None = None,
) -> None:
    """Score a target dataset from cached features and write scores.h5.

    Args:
        name: the registered method.
        options: of a method without a checkpoint; a checkpoint has its own.
        target: the dataset to score.
        out: scores.h5.
        checkpoint: of a trained method.
        seed: of a method that is stochastic but not trained.
        device: where to compute.
        row: the method as the tables should call it; default: its name.
        backbone_name: likewise the backbone; default: its model.

    Raises:
        InputError: an input does not fit; nothing is written.
    """
    kind = method_class(name)
    if kind.trainable != (checkpoint is not None):
        raise InputError(f"method {name} {'needs a checkpoint' if kind.trainable else 'takes no checkpoint'}")
    untrained = {"options": options, "auxiliary": NO_AUXILIARY, "seed": seed}
    record: dict[str, Any] = read_record(checkpoint) if checkpoint else untrained
    frame, cache, backbone = target.open(device)
    settings = parse(kind.Options, record["options"], str(checkpoint or f"options of {name}"))
    method = load_method(checkpoint, backbone, name) if checkpoint else kind(backbone, settings, seed).to(device)
    streams = _required(kind, settings, backbone, cache)
    started = time.perf_counter()
    arrays = score(method, cache, frame, streams)
    attributes = {
        "method": row or name,
        "backbone": backbone_name or backbone.config.model,
        "auxiliary": record["auxiliary"],
        "dataset": target.name,
        "seed": record["seed"],
        "sigma": method.sigma,
        "image_size": backbone.config.image_size,
        "seconds": time.perf_counter() - started,
        "learnable_parameters": _size(method.learned().values()),
        "total_parameters": _size(method.parameters()),
    }
    write_scores(out, arrays, frame, attributes)


def _size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _required(kind: type[Method], settings: Strict, backbone: Backbone, cache: FeatureCache) -> Streams:
    """What a method reads, after making sure that the cache has it."""
    streams = kind.streams(settings, backbone.quarters, backbone.layers)
    cache.require(backbone.provenance(), streams, f"method {kind.__name__}")
    return streams
