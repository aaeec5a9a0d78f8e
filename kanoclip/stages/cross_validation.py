"""Cross-validate a method over the classes of an auxiliary dataset, to choose its options."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from kanoclip.config import parse
from kanoclip.datasets.index import content
from kanoclip.methods import method_class
from kanoclip.result_store import fingerprint
from kanoclip.scoring import finished, write_scores
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.held_out import held_out
from kanoclip.stages.method_digests import training_code


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
    """Score each class of an auxiliary dataset with a method trained on other classes, and write scores.h5.

    This estimates how well a method works on unseen classes without using any target.

    Args:
        name: the registered method, trained or not.
        options: as written in the configuration.
        auxiliary: the dataset.
        knowledge: its knowledge.jsonl.
        out: scores.h5. Trainings are kept in the folder `<out>.partial` until all are done.
        folds: number of folds of the classes; each is left out once.
        seed: seed of the initial parameters and the order of the images.
        device: where to compute.

    Raises:
        InputError: an input is wrong, or there are fewer classes than folds; nothing is written.
    """
    kind = method_class(name)
    settings = parse(kind.Options, options, f"options of {name}")
    frame = auxiliary.frame()
    opened = auxiliary.open(device, frame)
    backbone, source, _ = opened
    source.require(kind.reads(settings, backbone.shape), f"method {name}")  # scoring may need more than training
    record = {"method": name, "options": settings.model_dump(mode="json"), "seed": seed, "folds": folds}
    key = fingerprint(content=content(frame), backbone=backbone.provenance(), code=training_code(kind), record=record)
    unfinished = out.with_name(f"{out.name}.partial")
    found = list(held_out(kind, settings, seed, folds, frame, opened, knowledge, unfinished, key))
    parts = [(part.rows.index, part.maps, part.scores) for part in found]
    order = np.argsort(np.concatenate([rows for rows, _, _ in parts]))
    maps, scores = (np.concatenate([part[k] for part in parts])[order] for k in (1, 2))
    attributes = {
        "method": name,
        "backbone": backbone.config.model,
        "auxiliary": auxiliary.name,
        "dataset": auxiliary.name,
        "seed": seed,
        "sigma": found[-1].sigma,
        "image_size": backbone.config.image_size,
    }
    write_scores(out, finished(maps, scores, frame, lambda maps, scores: None), frame, attributes)
    shutil.rmtree(unfinished, ignore_errors=True)
