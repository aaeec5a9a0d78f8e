"""The one training loop: from cached features to a checkpoint. The last epoch is used, nothing is selected."""

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kanoclip.backbones.streams import Streams
from kanoclip.datasets.masks import masks_at
from kanoclip.features import FeatureCache
from kanoclip.files import write_text
from kanoclip.methods.base import Batch, Method, TrainingOptions
from kanoclip.types import InputError, progress

ADAM_BETAS = (0.5, 0.999)  # of APRIL-GAN and AnomalyCLIP, which all peers follow


def fit(
    method: Method, cache: FeatureCache, frame: pd.DataFrame, streams: Streams, options: TrainingOptions, log: Path
) -> None:
    """Train a method on an auxiliary dataset and write the loss curves.

    Args:
        method: freshly built, on its device; its seed orders the batches.
        cache: features of the auxiliary dataset.
        frame: its index, rows as in the cache.
        streams: what the method reads.
        options: epochs and batch size.
        log: train.csv to write at the end: epoch, step, loss_total, one column a part, seconds.

    Raises:
        InputError: a loss is not finite.
    """
    data = TrainingData(cache, frame, streams, method)
    optimizer = torch.optim.Adam(method.parameter_groups(), betas=ADAM_BETAS)
    order = torch.Generator().manual_seed(method.seed)
    rows: list[dict[str, float]] = []
    started = time.perf_counter()
    method.train()
    for epoch in progress(range(1, options.epochs + 1), "train", options.epochs):
        for chosen in torch.randperm(len(frame), generator=order).split(options.batch_size):
            parts = method.losses(data.batch(chosen.tolist()))
            total = torch.stack(list(parts.values())).sum()
            if not torch.isfinite(total):
                names = ", ".join(frame["image"].iloc[chosen.tolist()])
                raise InputError(f"loss is not finite in epoch {epoch}: {_values(parts)}; images: {names}")
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()
            losses = {f"loss_{name}": value for name, value in {"total": total.item(), **_values(parts)}.items()}
            rows.append({"epoch": epoch, "step": len(rows) + 1, **losses, "seconds": time.perf_counter() - started})
    method.eval()
    _write_log(log, rows)


class TrainingData:
    """Batches of an auxiliary dataset; its masks are kept in memory at the image size, one byte a pixel."""

    def __init__(self, cache: FeatureCache, frame: pd.DataFrame, streams: Streams, method: Method):
        self.cache, self.streams, self.device = cache, streams, method.backbone.device
        self.images, self.class_names = frame["image"].tolist(), frame["class_name"].tolist()
        self.labels = torch.tensor(frame["label"].to_numpy())  # (N,)
        size = method.backbone.config.image_size
        self.masks = torch.from_numpy(np.stack(list(masks_at(frame, size))))  # (N, S, S) bool

    def batch(self, rows: Sequence[int]) -> Batch:
        """The images of some rows, on the method's device."""
        return Batch(
            images=[self.images[row] for row in rows],
            class_names=[self.class_names[row] for row in rows],
            features=self.cache.read(rows, self.streams).to(self.device),
            labels=self.labels[list(rows)].to(self.device),
            masks=self.masks[list(rows)].to(self.device),
        )


def check_trainable(frame: pd.DataFrame, index: Path) -> None:
    """Refuse an auxiliary dataset without both labels, or with an anomalous image that has no mask."""
    if set(frame["label"]) != {0, 1}:
        raise InputError(
            f"{index}: training needs normal and anomalous images, found only label {frame['label'].iloc[0]}"
        )
    bare = frame[(frame["label"] == 1) & (frame["mask_path"] == "")]
    if len(bare):
        raise InputError(
            f"{index}: training needs a mask for every anomalous image, found none for {bare['image'].iloc[0]}"
        )


def _values(parts: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in parts.items()}


def _write_log(path: Path, rows: Sequence[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)
    write_text(path, text.getvalue())
