"""Score each class of an auxiliary dataset with a method trained on other classes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.config import Strict
from kanoclip.features import FeatureSource, LiveFeatures
from kanoclip.methods import Method
from kanoclip.result_store import fingerprint
from kanoclip.scoring import score
from kanoclip.stages.fitting import Knowledge, train
from kanoclip.thresholds import NoThresholdError
from kanoclip.training import TrainingState, check_trainable
from kanoclip.types import InputError


@dataclass(frozen=True)
class HeldOut:
    """The scores of classes that were left out of one training.

    Attributes:
        rows: rows of the index.
        maps: (N, h, w) in 0..1, before smoothing.
        scores: (N,) in 0..1.
        sigma: Gaussian smoothing of the final maps, in pixels at 518.
    """

    rows: pd.DataFrame
    maps: NDArray[np.float32]
    scores: NDArray[np.float32]
    sigma: float


def held_out(
    kind: type[Method[Any]],
    settings: Strict,
    seed: int,
    folds: int,
    frame: pd.DataFrame,
    opened: tuple[Backbone, FeatureSource, LiveFeatures],
    knowledge: Path,
    unfinished: Path,
    key: str,
) -> Iterator[HeldOut]:
    """Leave out each fold of classes once, train on the rest and score the left-out classes.

    Args:
        kind: the method, trained or not.
        settings: its options.
        seed: seed of the initial parameters and the order of the images.
        folds: number of folds.
        frame: the index of the auxiliary dataset.
        opened: the backbone and the features, as `Dataset.open` returns them.
        knowledge: knowledge.jsonl of the auxiliary dataset.
        unfinished: folder of interrupted trainings, which are resumed.
        key: fingerprint of everything that the trainings depend on, except the fold.

    Raises:
        NoThresholdError: there are fewer classes than folds, or the remaining classes cannot be trained on.
    """
    classes = frame["class_name"].unique().tolist()
    if not 2 <= folds <= len(classes):
        raise NoThresholdError(
            f"auxiliary dataset: expected 2 to {len(classes)} folds, one class each or more, found {folds}"
        )
    backbone, source, live = opened
    scored = source if _has(source, kind.reads(settings, backbone.shape)) else live
    for fold in range(folds):
        left_out = frame["class_name"].isin(classes[fold::folds])
        rest = frame[~left_out]
        torch.manual_seed(seed)
        method = kind(backbone, settings, seed).to(backbone.device)
        if kind.trainable:
            try:
                check_trainable(rest, Path(f"the classes without {', '.join(classes[fold::folds])}"))
            except InputError as error:
                raise NoThresholdError(str(error)) from None
            known = Knowledge.read(knowledge, rest)
            of_fold = fingerprint(key=key, fold=fold, knowledge=[known.classes, known.images])
            train(method, rest, source, live, known, TrainingState(unfinished / f"fold{fold + 1}.pt", of_fold))
        rows = frame[left_out]
        yield HeldOut(rows, *score(method, scored, rows), method.sigma)


def _has(source: FeatureSource, taps: frozenset[Tap]) -> bool:
    """Return whether a source has the taps of scoring; a cache may hold only those of training."""
    try:
        source.require(taps, "scoring")
    except InputError:
        return False
    return True
