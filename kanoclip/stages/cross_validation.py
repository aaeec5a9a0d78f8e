"""Score each class of an auxiliary dataset by a method trained on the others: the place to choose options."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from kanoclip.config import parse
from kanoclip.datasets.index import content
from kanoclip.methods import method_class
from kanoclip.scoring import finished, score, write_scores
from kanoclip.stages.code import training_code
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.training import Knowledge, train
from kanoclip.store import fingerprint
from kanoclip.training import TrainingState, check_trainable
from kanoclip.types import InputError


def cross_validate_stage(
    name: str,
    options: dict[str, Any],
    auxiliary: Dataset,
    knowledge: Path,
    out: Path,
    folds: int,
    seed: int,
    device: str,
) -> None:
    """Score each class of an auxiliary dataset by a method that was trained on others; write scores.h5.

    It tells how a method does on classes it has not seen, without a look at any target.

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
    frame = auxiliary.frame()
    classes = frame["class_name"].unique().tolist()
    if not 2 <= folds <= len(classes):
        raise InputError(
            f"{auxiliary.index}: expected 2 to {len(classes)} folds, one class each or more, found {folds}"
        )
    backbone, source, live = auxiliary.open(device, frame)
    source.require(kind.reads(settings, backbone.shape), f"method {name}")  # scoring may need more than training
    record = {"method": name, "options": settings.model_dump(mode="json"), "seed": seed, "folds": folds}
    depends = {"content": content(frame), "backbone": backbone.provenance(), "code": training_code(kind)}
    parts, states = [], []
    for fold in range(folds):
        left_out = frame["class_name"].isin(classes[fold::folds])
        rest = frame[~left_out]
        torch.manual_seed(seed)
        method = kind(backbone, settings, seed).to(device)
        if kind.trainable:
            check_trainable(rest, auxiliary.index)
            known = Knowledge.read(knowledge, rest)
            key = fingerprint(**depends, record=record, fold=fold, knowledge=[known.classes, known.images])
            states.append(TrainingState(out.with_name(f"{out.name}.{fold + 1}.partial"), key))
            train(method, rest, source, live, known, states[-1])
        parts.append((frame.index[left_out], *score(method, source, frame[left_out])))
    order = np.argsort(np.concatenate([rows for rows, _, _ in parts]))
    maps, scores = (np.concatenate([part[k] for part in parts])[order] for k in (1, 2))
    attributes = {
        "method": name,
        "backbone": backbone.config.model,
        "auxiliary": auxiliary.name,
        "dataset": auxiliary.name,
        "seed": seed,
        "sigma": method.sigma,
        "image_size": backbone.config.image_size,
    }
    write_scores(out, finished(maps, scores, frame, lambda maps, scores: None), frame, attributes)
    for state in states:
        state.forget()
