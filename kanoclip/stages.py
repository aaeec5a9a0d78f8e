"""The stages that join several rooms: train and score, and what can be listed."""

from pathlib import Path
from typing import Any

import pandas as pd

from kanoclip.backbones.clip import Backbone, Streams, load_backbone
from kanoclip.checkpoints import load_method, read_record, save_checkpoint
from kanoclip.config import BackboneConfig, Strict, parse
from kanoclip.datasets.index import read_index
from kanoclip.datasets.specs import dataset_names
from kanoclip.features import FeatureCache
from kanoclip.knowledge.store import read_knowledge
from kanoclip.methods import Method, method_class, method_names
from kanoclip.protocol import NO_AUXILIARY
from kanoclip.scoring import score, write_scores
from kanoclip.training import check_trainable, fit
from kanoclip.types import InputError, logger, unknown_name


def train_stage(
    name: str,
    options: dict[str, Any],
    features: Path,
    index: Path,
    knowledge: Path,
    out: Path,
    log: Path,
    auxiliary: str,
    seed: int,
    device: str,
) -> None:
    """Train a method from cached features and write its checkpoint and loss curves.

    Raises:
        InputError: an input does not fit; nothing is written.
    """
    import torch

    kind = method_class(name)
    if not kind.trainable:
        raise InputError(f"method {name} is not trained; score with it directly")
    settings = parse(kind.Options, options, f"options of {name}")
    frame, cache, backbone = _inputs(index, features, device)
    check_trainable(frame, index)
    streams = _wanted(kind, settings, backbone)
    cache.require(backbone.provenance(), streams, f"method {name}")
    torch.manual_seed(seed)
    method = kind(backbone, settings, seed).to(device)
    method.learn_knowledge(read_knowledge(knowledge, frame["class_name"].unique().tolist()))
    count = sum(parameter.numel() for parameter in method.learned().values())
    logger.info("%s: %d learnable parameters, %d images of %s", name, count, len(frame), auxiliary)
    fit(method, cache, frame, streams, settings.epochs, settings.batch_size, log)  # type: ignore[attr-defined]
    record = {"method": name, "options": settings.model_dump(mode="json"), "auxiliary": auxiliary, "seed": seed}
    save_checkpoint(out, method, record)


def score_stage(
    name: str,
    options: dict[str, Any],
    features: Path,
    index: Path,
    out: Path,
    checkpoint: Path | None,
    seed: int,
    labels: dict[str, str | None],
    device: str,
) -> None:
    """Score a target dataset from cached features and write scores.h5.

    Args:
        name: the registered method.
        options: of a method without a checkpoint; a checkpoint has its own.
        features: the target's cache.
        index: the target's index.csv.
        out: scores.h5.
        checkpoint: of a trained method.
        seed: of a method that is stochastic but not trained.
        labels: method, backbone and dataset as the tables should call them.
        device: where to compute.

    Raises:
        InputError: an input does not fit; nothing is written.
    """
    kind = method_class(name)
    if kind.trainable != (checkpoint is not None):
        raise InputError(f"method {name} {'needs a checkpoint' if kind.trainable else 'takes no checkpoint'}")
    record = read_record(checkpoint) if checkpoint else {}
    frame, cache, backbone = _inputs(index, features, device)
    if checkpoint:
        method = load_method(checkpoint, backbone, name)
        settings = parse(kind.Options, record["options"], str(checkpoint))
    else:
        settings = parse(kind.Options, options, f"options of {name}")
        method = kind(backbone, settings, seed).to(device)
    streams = _wanted(kind, settings, backbone)
    cache.require(backbone.provenance(), streams, f"method {name}")
    arrays = score(method, cache, frame, streams)
    attributes = {
        "method": labels["method"],
        "backbone": labels["backbone"] or backbone.config.model,
        "auxiliary": record.get("auxiliary", NO_AUXILIARY),
        "dataset": labels["dataset"],
        "seed": record.get("seed", seed),
        "sigma": method.sigma,
        "image_size": backbone.config.image_size,
    }
    write_scores(out, arrays, frame, attributes)


def registered(what: str) -> list[str]:
    """Every name of a kind: datasets, methods, metrics or backbones.

    Raises:
        InputError: there is no such kind.
    """
    if what == "datasets":
        return dataset_names()
    if what == "methods":
        return method_names()
    if what == "metrics":
        from kanoclip.metrics.registry import LEVELS, metrics_of

        return [f"{level} {metric.name}" for level in LEVELS for metric in metrics_of(level)]
    if what == "backbones":
        import open_clip

        from kanoclip.backbones.weights import register_embedded

        register_embedded()
        return open_clip.list_models()
    raise unknown_name("kind", what, ["datasets", "methods", "metrics", "backbones"])


def _inputs(index: Path, features: Path, device: str) -> tuple[pd.DataFrame, FeatureCache, Backbone]:
    """An index, the cache that belongs to it, and the backbone that the cache was made with."""
    frame = read_index(index)
    cache = FeatureCache(features, frame["image"].tolist())
    backbone = load_backbone(parse(BackboneConfig, cache.provenance["backbone"], str(features)), device)
    return frame, cache, backbone


def _wanted(kind: type[Method], settings: Strict, backbone: Backbone) -> Streams:
    return kind.streams(settings, backbone.quarters, backbone.layers)
