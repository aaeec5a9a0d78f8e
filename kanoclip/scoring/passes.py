"""A pass over a target: features are computed or read once and given to every row and seed that needs them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from kanoclip.backbones.taps import Features, Tap
from kanoclip.datasets.masks import masks_at
from kanoclip.features import FeatureSource
from kanoclip.methods.base import Batch, Method
from kanoclip.methods.contract import DeclaredTaps, scored
from kanoclip.scoring.classes import finished
from kanoclip.scoring.progress import ScoresInProgress, check_values
from kanoclip.scoring.transfer import Stopwatch, Transfer
from kanoclip.types import InputError, Progress

BATCH_SIZE = 32


@dataclass
class Scorer:
    """A row and seed of a pass.

    Attributes:
        method: ready to score, on its device.
        scores: stores its scores; images that are scored already are skipped.
        failed: the error for which it was given up, if any.
    """

    method: Method[Any]
    scores: ScoresInProgress
    failed: InputError | None = None

    @property
    def taps(self) -> frozenset[Tap]:
        """The taps that the method reads."""
        return self.method.reads(self.method.options, self.method.backbone.shape)


def run_pass(
    scorers: Sequence[Scorer],
    source: FeatureSource,
    frame: pd.DataFrame,
    batch_size: int = BATCH_SIZE,
    name: str = "score",
) -> None:
    """Score every image with every row and seed that has not scored it, computing each batch of features once.

    A row whose method breaks its contract, for example by scores that are not finite, is given up, with the reason in
    `failed`; the others continue.

    Args:
        scorers: the rows and seeds, on one device.
        source: source of the features; taps that no scorer needs for a batch are not computed.
        frame: the index. Only controls get labels and masks.
        batch_size: images per forward pass; results depend on it only through rounding.
        name: name of the pass, for its progress.

    Raises:
        InputError: an image cannot be read, or the source lacks a tap.
    """
    for scorer in scorers:
        scorer.method.eval()
        source.require(scorer.taps, f"method {type(scorer.method).__name__}")
    batches = [range(start, min(start + batch_size, len(frame))) for start in range(0, len(frame), batch_size)]
    work = [(rows, [scorer for scorer in scorers if scorer.scores.lacks(rows)]) for rows in batches]
    work = [(rows, lacking) for rows, lacking in work if lacking]
    leaving: list[_Outgoing] = []  # outputs of the previous batch, while this one is computed
    done = len(frame) - sum(len(rows) for rows, _ in work)
    with torch.no_grad(), Progress(name, len(frame), "images", done) as bar:
        for rows, lacking, features in _with_features(work, source):
            outputs = [_output(scorer, rows, features, frame) for scorer in lacking if scorer.failed is None]
            outgoing = [output for output in outputs if output is not None]
            for output in leaving:
                output.write()
            leaving = outgoing
            bar.update(len(rows))
    for output in leaving:
        output.write()


def score(
    method: Method[Any], source: FeatureSource, frame: pd.DataFrame, batch_size: int = BATCH_SIZE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Score every image of a dataset with one method, in memory.

    Args:
        method: ready to score, on its device.
        source: features of the dataset.
        frame: its index, or some rows of it; the labels of the frame are rows of the source.
        batch_size: images per forward pass.

    Returns:
        Maps (N, h, w) and image scores (N,).

    Raises:
        InputError: the method breaks its contract (shapes, finite scores, maps in 0..1), or the source lacks a tap.
    """
    method.eval()
    taps = method.reads(method.options, method.backbone.shape)
    source.require(taps, f"method {type(method).__name__}")
    starts = range(0, len(frame), batch_size)
    parts = [frame.iloc[start : start + batch_size] for start in starts]
    maps, scores = [], []
    with torch.no_grad():
        for rows, features in zip(parts, source.stream([part.index.tolist() for part in parts], taps), strict=True):
            output = scored(method, _batch(method, rows, DeclaredTaps(method, features, taps)))
            maps.append(output.map.float().cpu())
            scores.append(output.image_score.float().cpu())
    found = torch.cat(maps).numpy(), torch.cat(scores).numpy()
    check_values(*found, frame["image_path"].tolist())
    final = finished(*found, frame, method.after_class)
    return final.rows(0, len(frame)), final.image_score


@dataclass
class _Outgoing:
    """Scores of a batch that are being copied to the host."""

    scorer: Scorer
    rows: range
    transfer: Transfer
    watch: Stopwatch

    def write(self) -> None:
        if self.scorer.failed is not None:  # in the previous batch
            return
        maps, scores = (tensor.numpy() for tensor in self.transfer.result())
        try:
            self.scorer.scores.write(self.rows, maps, scores, self.watch.seconds())
        except InputError as error:
            self.scorer.failed = error


def _with_features(
    work: Sequence[tuple[range, list[Scorer]]], source: FeatureSource
) -> Iterator[tuple[range, list[Scorer], Features]]:
    """Yield the features of each batch; neighbouring batches that need the same taps come from one stream."""

    def needed(item: tuple[range, list[Scorer]]) -> frozenset[Tap]:
        return frozenset().union(*(scorer.taps for scorer in item[1]))

    for taps, group in groupby(work, key=needed):
        items = list(group)
        for (rows, lacking), features in zip(items, source.stream([rows for rows, _ in items], taps), strict=True):
            yield rows, lacking, features


def _output(scorer: Scorer, rows: range, features: Features, frame: pd.DataFrame) -> _Outgoing | None:
    """Score some images with one row; None if its method broke its contract, with the reason in `failed`."""
    method = scorer.method
    batch = _batch(method, frame.iloc[rows.start : rows.stop], DeclaredTaps(method, features, scorer.taps))
    watch = Stopwatch(method.backbone.device)
    try:
        output = scored(method, batch)
    except InputError as error:
        scorer.failed = error
        return None
    watch.mark()
    return _Outgoing(scorer, rows, Transfer(output.map, output.image_score), watch)


def _batch(method: Method[Any], rows: pd.DataFrame, features: Features) -> Batch:
    """Return the images of some rows of the index; only a control gets labels and masks."""
    truth = {}
    if method.sees_truth:
        truth = {
            "labels": torch.tensor(rows["label"].to_numpy()),
            "masks": torch.from_numpy(np.stack(list(masks_at(rows, method.backbone.config.image_size)))),
        }
    return Batch(rows["image"].tolist(), rows["class_name"].tolist(), features, **truth)
