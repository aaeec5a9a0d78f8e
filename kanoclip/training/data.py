"""Batches of an auxiliary dataset: features from any source, masks in memory, optionally augmented images."""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from kanoclip.augmentation import Augmentation, Sample
from kanoclip.backbones.taps import Features, Tap
from kanoclip.datasets.index import load_image, load_mask
from kanoclip.datasets.masks import Resize, masks_at, resize_mask
from kanoclip.features import FeatureSource, LiveFeatures
from kanoclip.methods.base import Batch
from kanoclip.types import InputError

Rows = Sequence[int]
AHEAD = 2  # batches of augmented images prepared before they are needed


class IndexedImages:
    """The images of an index, for augmentations. Attributes: see `kanoclip.augmentation.ImageSet`."""

    def __init__(self, frame: pd.DataFrame):
        self.class_names, self.defects = frame["class_name"].tolist(), frame["defect"].tolist()
        self._files = list(zip(frame["image_path"], frame["mask_path"], strict=True))

    def load(self, row: int) -> Sample:
        """Return an image (H, W, 3) uint8 and its mask (H, W) bool, all False for a normal image."""
        image_path, mask_path = self._files[row]
        image = load_image(image_path)
        size = image.height, image.width
        return np.asarray(image), load_mask(mask_path, image.size) if mask_path else np.zeros(size, bool)


class TrainingData:
    """An auxiliary dataset, batch by batch.

    Args:
        source: its features.
        frame: its index, or some rows of it; the labels of the frame are rows of the source.
        size: pixels per side of the masks.
        live: source of features for phases with augmentation; None refuses such phases.
        resize: how masks are resized; see `resize_mask`.
    """

    def __init__(
        self,
        source: FeatureSource,
        frame: pd.DataFrame,
        size: int,
        live: LiveFeatures | None = None,
        resize: Resize = "nearest",
    ):
        self.source, self.live, self.size, self.resize = source, live, size, resize
        self.images, self.class_names = frame["image"].tolist(), frame["class_name"].tolist()
        self.labels = torch.tensor(frame["label"].to_numpy())  # (N,)
        masks = list(masks_at(frame, size, resize))
        self.masks = torch.from_numpy(np.stack(masks))  # (N, S, S) bool, one byte per pixel
        self._rows: list[int] = frame.index.tolist()  # their rows in the source
        self._files = IndexedImages(frame)

    def __len__(self) -> int:
        return len(self.images)

    def batches(
        self, order: Sequence[Rows], taps: Collection[Tap], augment: Augmentation | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """Yield the images of each batch, on the device of the features.

        Args:
            order: rows of the data, batch by batch.
            taps: the taps to read.
            augment: augments images, whose features are then computed live.
            seed: seed of the augmentation.

        Raises:
            InputError: an augmentation is given without live features.
        """
        if augment is not None:
            yield from self._augmented(order, taps, augment, seed)
            return
        stream = self.source.stream([[self._rows[row] for row in rows] for rows in order], taps)
        for rows, features in zip(order, stream, strict=True):
            yield self._batch(rows, features, self.labels[list(rows)], self.masks[list(rows)])

    def _batch(self, rows: Rows, features: Features, labels: torch.Tensor, masks: torch.Tensor) -> Batch:
        device = self.source.backbone.device
        return Batch(
            images=[self.images[row] for row in rows],
            class_names=[self.class_names[row] for row in rows],
            features=features,
            labels=labels.to(device),
            masks=masks.to(device),
        )

    def _augmented(
        self, order: Sequence[Rows], taps: Collection[Tap], augment: Augmentation, seed: int
    ) -> Iterator[Batch]:
        """Load and augment images in threads while the towers and the training compute."""
        if self.live is None:
            raise InputError("this training changes its images, so it needs live features; give it the backbone")
        live = self.live
        positions = np.cumsum([0, *(len(rows) for rows in order)])
        work = [
            [partial(self._changed, row, augment, [seed, int(start) + k]) for k, row in enumerate(rows)]
            for start, rows in zip(positions, order, strict=False)
        ]
        for rows, samples in zip(order, prefetched(work, live.workers), strict=True):
            images, masks = (np.stack(parts) for parts in zip(*samples, strict=True))
            truth = torch.from_numpy(masks)
            yield self._batch(rows, live.of_images(images, taps), truth.flatten(1).any(1).long(), truth)

    def _changed(self, row: int, augment: Augmentation, seed: list[int]) -> Sample:
        image, mask = augment(row, self._files, np.random.default_rng(seed))
        square = Image.fromarray(image).resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(square), resize_mask(mask, (self.size, self.size), self.resize)


def prefetched(batches: Sequence[Sequence[Callable[[], Sample]]], workers: int) -> Iterator[list[Sample]]:
    """Yield the results of each batch of calls in order, computed in threads some batches ahead."""
    with ThreadPoolExecutor(workers) as pool:
        ready: deque[list[Future[Sample]]] = deque()
        try:
            for calls in batches:
                ready.append([pool.submit(call) for call in calls])
                if len(ready) > AHEAD:
                    yield [sample.result() for sample in ready.popleft()]
            while ready:
                yield [sample.result() for sample in ready.popleft()]
        finally:
            pool.shutdown(cancel_futures=True)


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
