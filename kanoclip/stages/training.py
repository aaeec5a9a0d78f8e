"""Train a method on an auxiliary dataset, once per seed, with features that are read once."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from kanoclip.checkpoints import save_checkpoint
from kanoclip.config import parse
from kanoclip.datasets.index import content
from kanoclip.files import write_json, write_text
from kanoclip.measuring import process_cost
from kanoclip.methods import method_class
from kanoclip.result_store import Store, fingerprint
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.fitting import Knowledge, train
from kanoclip.stages.held_out import held_out
from kanoclip.stages.method_digests import training_code
from kanoclip.thresholds import NoThresholdError, Tally
from kanoclip.training import TrainingState, check_trainable
from kanoclip.types import InputError, logger

CHECKPOINT, CURVES, COST = "checkpoint.safetensors", "train.csv", "cost.json"  # what is kept of a seed
STATE, THRESHOLD = "state.pt", "threshold.json"
THRESHOLD_SEED = 0  # of the trainings that choose the threshold, which all seeds of a row share


def train_stage(
    name: str,
    options: dict[str, Any],
    auxiliary: Dataset,
    knowledge: Path,
    out: Path,
    seeds: Sequence[int],
    device: str,
    store: Path,
    threshold_folds: int = 0,
) -> None:
    """Train a method and write the checkpoint, the loss curves and the peak memory of every seed.

    A seed that was trained already under the same conditions is taken from the store; an interrupted training resumes
    after its last complete epoch.

    Args:
        name: the registered method.
        options: as written in the configuration.
        auxiliary: the dataset to train on.
        knowledge: its knowledge.jsonl.
        out: the folder for seed<n>/checkpoint.safetensors, seed<n>/train.csv and seed<n>/cost.json.
        seeds: each of the initial parameters and the order of the images.
        device: where to compute.
        store: folder of finished results.
        threshold_folds: number of additional trainings, for all seeds together, that choose the threshold stored in the
            checkpoints: each leaves out and scores another fold of the classes; 1 leaves out one of two halves, 0
            chooses no threshold. `kanoclip.rates.extra_trainings` has the cost.

    Raises:
        InputError: an input is wrong; nothing is written.
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
    chosen = {"threshold_folds": threshold_folds} if threshold_folds else {}
    keys = {seed: fingerprint(**depends, **chosen, record=record, seed=seed) for seed in seeds}
    outputs = {seed: {file: out / f"seed{seed}" / file for file in (CHECKPOINT, CURVES, COST)} for seed in seeds}
    todo = [seed for seed in seeds if not results.fetch(keys[seed], outputs[seed])]
    logger.info("%s on %s: %d of %d seeds to train", name, auxiliary.name, len(todo), len(seeds))
    if not todo:
        return
    opened = auxiliary.open(device, frame)
    backbone, source, live = opened
    if threshold_folds:
        key = fingerprint(**depends, **chosen, record=record, result="threshold")
        if not results.fetch(key, {THRESHOLD: out / THRESHOLD}):
            folder = results.partial(key)
            tally = Tally(backbone.config.image_size)
            try:
                parts = held_out(
                    kind, settings, THRESHOLD_SEED, max(2, threshold_folds), frame, opened, knowledge, folder, key
                )
                for part in islice(parts, threshold_folds):
                    tally.add(part.rows, part.maps, part.scores, part.sigma)
                found = {**tally.thresholds(), "auxiliary": auxiliary.name, "folds": threshold_folds}
            except NoThresholdError as error:
                found = {"reason": str(error)}
            write_json(folder / THRESHOLD, found)
            results.finish(key, {THRESHOLD: folder / THRESHOLD}, {THRESHOLD: out / THRESHOLD})
        record["threshold"] = json.loads((out / THRESHOLD).read_text(encoding="utf-8"))
    for seed in todo:
        folder = results.partial(keys[seed])
        torch.manual_seed(seed)
        method = kind(backbone, settings, seed).to(device)
        text = train(method, frame, source, live, known, TrainingState(folder / STATE, keys[seed]))
        write_text(folder / CURVES, text)
        save_checkpoint(folder / CHECKPOINT, method, {**record, "seed": seed})
        write_json(folder / COST, {"peak_memory_mb": process_cost()[1]})
        results.keep(keys[seed], {file: folder / file for file in (CHECKPOINT, CURVES, COST)})
        results.fetch(keys[seed], outputs[seed])
    results.sweep()
