"""Batches of an auxiliary dataset: features from the cache, kept on a GPU when they fit, and masks in memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kanoclip.backbones.streams import ImageFeatures, Streams
from kanoclip.datasets.masks import masks_at
from kanoclip.features import FeatureCache
from kanoclip.methods.base import Batch
from kanoclip.types import InputError, logger

SHARE_OF_MEMORY = 0.5  # of a GPU's free memory that features may take; the rest is for training


class TrainingData:
    """An auxiliary dataset, batch by batch.

    Args:
        cache: its features.
        frame: its index, or some rows of it; its labels are rows of the cache.
        streams: what the method reads.
        size: pixels a side of the masks.
        device: where batches shall be.
        keep: hold all features on the device; default: on a GPU when they fit into half of its free memory.
    """

    def __init__(
        self,
        cache: FeatureCache,
        frame: pd.DataFrame,
        streams: Streams,
        size: int,
        device: torch.device,
        keep: bool | None = None,
    ):
        self.cache, self.streams, self.device = cache, streams, device
        self.images, self.class_names = frame["image"].tolist(), frame["class_name"].tolist()
        self.cached: list[int] = frame.index.tolist()  # where the cache has them
        self.labels = torch.tensor(frame["label"].to_numpy())  # (N,)
        self.masks = torch.from_numpy(np.stack(list(masks_at(frame, size))))  # (N, S, S) bool, one byte a pixel
        self._kept: ImageFeatures | None = None
        if self._fits() if keep is None else keep:
            self._kept = cache.read(self.cached, streams).to(device, torch.float16)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: Sequence[int]) -> Batch:
        """The images of some rows, on the device."""
        return Batch(
            images=[self.images[row] for row in rows],
            class_names=[self.class_names[row] for row in rows],
            features=self._features(rows),
            labels=self.labels[list(rows)].to(self.device),
            masks=self.masks[list(rows)].to(self.device),
        )

    def _features(self, rows: Sequence[int]) -> ImageFeatures:
        if self._kept is None:
            return self.cache.read([self.cached[row] for row in rows], self.streams).to(self.device)
        chosen = torch.tensor(rows, device=self.device)

        def take(tensor: Tensor) -> Tensor:
            return tensor[chosen].float()

        return self._kept.map(take)

    def _fits(self) -> bool:
        if self.device.type != "cuda":
            return False
        needed, free = self.cache.size_of(self.streams), torch.cuda.mem_get_info(self.device)[0]
        fits = needed < SHARE_OF_MEMORY * free
        logger.info(
            "features: %.1f GB, %s (%.1f GB of the GPU are free)",
            needed / 1e9,
            "kept on the GPU" if fits else "read from the cache in every epoch",
            free / 1e9,
        )
        return fits


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
