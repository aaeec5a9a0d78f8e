"""The stages that join several rooms: train, score, cross-validate."""

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
from kanoclip.scoring import score, write_scores
from kanoclip.training import TrainingData, check_trainable, fit
from kanoclip.training.state import TrainingState
from kanoclip.types import NO_AUXILIARY, InputError, logger


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
    record = {"method": name, "options": settings.model_dump(mode="json"), "auxiliary": auxiliary.name, "seed": seed}
    torch.manual_seed(seed)
    method = kind(backbone, settings, seed).to(device)
    data = TrainingData(cache, frame, streams, backbone.config.image_size, backbone.device)
    text, state = _fit(method, settings, data, knowledge, record, log)
    write_text(log, text)
    save_checkpoint(out, method, record)
    state.forget()


def _fit(
    method: Method, settings: TrainingOptions, data: TrainingData, knowledge: Path, record: dict[str, Any], beside: Path
) -> tuple[str, TrainingState]:
    """Train on what is known about the classes in the data; what was done so far is in `<beside>.partial`."""
    texts, of_images = read_knowledge(knowledge, list(dict.fromkeys(data.class_names))), read_image_knowledge(knowledge)
    method.learn_knowledge(texts, of_images)
    count, name = _size(method.learned().values()), record["method"]
    logger.info("%s: %d learnable parameters, %d images of %s", name, count, len(data), record["auxiliary"])
    everything = [record, data.cache.provenance, data.images, texts, of_images]
    fingerprint = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
    state = TrainingState(beside.with_name(f"{beside.name}.partial"), fingerprint)
    return fit(method, data, settings, state), state


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
    names = row or name, backbone_name or backbone.config.model, record["auxiliary"], target.name
    write_scores(out, arrays, frame, _attributes(method, *names, record["seed"], time.perf_counter() - started))


def cross_validate_stage(
    name: str,
    options: dict[str, Any],
    auxiliary: EncodedDataset,
    knowledge: Path,
    out: Path,
    folds: int,
    seed: int,
    device: str,
) -> None:
    """Score each class of an auxiliary dataset by a method that was trained on others; write scores.h5.

    It says how a method does on classes it has not seen, without a look at any target: the place to choose options.

    Args:
        name: the registered method, trained or not.
        options: as written in the configuration.
        auxiliary: the dataset.
        knowledge: its knowledge.jsonl.
        out: scores.h5. What is trained is kept in `<out>.<fold>.partial` until all is done.
        folds: parts of the classes; each is left out once.
        seed: of the initial parameters and the order of the images.
        device: where to compute.

    Raises:
        InputError: an input does not fit, or there are fewer classes than folds; nothing is written.
    """
    kind = method_class(name)
    settings = parse(kind.Options, options, f"options of {name}")
    frame, cache, backbone = auxiliary.open(device)
    streams = _required(kind, settings, backbone, cache)
    classes = frame["class_name"].unique().tolist()
    if not 2 <= folds <= len(classes):
        raise InputError(
            f"{auxiliary.index}: expected 2 to {len(classes)} folds, one class each or more, found {folds}"
        )
    record = {"method": name, "options": settings.model_dump(mode="json"), "auxiliary": auxiliary.name, "seed": seed}
    parts, states, started = [], [], time.perf_counter()
    for fold in range(folds):
        left_out = frame["class_name"].isin(classes[fold::folds])
        torch.manual_seed(seed)
        method = kind(backbone, settings, seed).to(device)
        if isinstance(settings, TrainingOptions):
            check_trainable(frame[~left_out], auxiliary.index)
            data = TrainingData(cache, frame[~left_out], streams, backbone.config.image_size, backbone.device)
            beside = out.with_name(f"{out.name}.{fold + 1}")
            states.append(_fit(method, settings, data, knowledge, record, beside)[1])
        parts.append((frame.index[left_out], score(method, cache, frame[left_out], streams)))
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    arrays = {key: np.concatenate([part[key] for _, part in parts])[order] for key in parts[0][1]}
    names = name, backbone.config.model, auxiliary.name, auxiliary.name
    write_scores(out, arrays, frame, _attributes(method, *names, seed, time.perf_counter() - started))
    for state in states:
        state.forget()


def _attributes(
    method: Method, name: str, backbone: str, auxiliary: str, dataset: str, seed: int, seconds: float
) -> dict[str, Any]:
    """What scores.h5 says about itself."""
    return {
        "method": name,
        "backbone": backbone,
        "auxiliary": auxiliary,
        "dataset": dataset,
        "seed": seed,
        "sigma": method.sigma,
        "image_size": method.backbone.config.image_size,
        "seconds": seconds,
        "learnable_parameters": _size(method.learned().values()),
        "total_parameters": _size(method.parameters()),
    }


def _size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _required(kind: type[Method], settings: Strict, backbone: Backbone, cache: FeatureCache) -> Streams:
    """What a method reads, after making sure that the cache has it."""
    streams = kind.streams(settings, backbone.quarters, backbone.layers)
    cache.require(backbone.provenance(), streams, f"method {kind.__name__}")
    return streams
