"""Rank the pixels of a class by the maps of many methods at once, batch by batch, reading each mask once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from kanoclip.datasets.index import load_image, load_mask
from kanoclip.datasets.masks import masks_at
from kanoclip.maps import upsample_and_smooth
from kanoclip.metrics.counts import Counts, Levels, Truth
from kanoclip.metrics.ranking import NO_LABELS, Ranking, UndefinedMetricError
from kanoclip.types import InputError, logger

BATCH = 16  # maps upsampled, smoothed and counted at once


@dataclass(frozen=True)
class Maps:
    """The maps of a scores.h5, and how to upsample and smooth them.

    Attributes:
        path: the scores.h5, for messages.
        stored: (N, h, w) in 0..1, one row per test image.
        size: side length of the final maps in pixels.
        sigma: standard deviation of the smoothing Gaussian, in pixels.
        device: where they are upsampled, smoothed and counted.
    """

    path: Path
    stored: h5py.Dataset
    size: int
    sigma: float
    device: str

    def extremes(self, members: pd.DataFrame) -> tuple[float, float]:
        """Return the lowest and the highest map value of some rows; final maps stay within this range.

        Raises:
            InputError: a value is not a probability, or the file is damaged.
        """
        try:
            stored = self._read(members)
        except OSError as error:
            raise InputError(f"{self.path}: cannot read its maps ({error}); score again") from error
        check(self.path, members["image"], (stored >= 0) & (stored <= 1), "map", "finite and in 0..1")
        return float(stored.min()), float(stored.max())

    def final(self, members: pd.DataFrame) -> torch.Tensor:
        """Return the maps (B, size, size) of some rows, upsampled and smoothed."""
        stored = torch.from_numpy(self._read(members)).to(self.device)
        return upsample_and_smooth(stored, (self.size, self.size), self.sigma)

    def _read(self, members: pd.DataFrame) -> NDArray[np.float32]:
        """Return the maps of some rows as float32, whatever type another program stored."""
        rows = members.index.to_numpy()
        consecutive = rows[-1] - rows[0] == len(rows) - 1  # HDF5 would read a list of rows one by one
        stored = self.stored[rows[0] : rows[-1] + 1] if consecutive else self.stored[rows]
        return stored.astype(np.float32, copy=False)


def check(scores: Path, images: pd.Series, good: NDArray[np.bool_], what: str, expected: str) -> None:
    """Raise an InputError for the first image with an unexpected value.

    Args:
        scores: the scores.h5, for the message.
        images: (N,) names.
        good: (N, ...) whether each value is valid.
        what: the kind of value, in the singular.
        expected: what the values should be.
    """
    per_image = good.reshape(len(good), -1).all(axis=1)
    if not per_image.all():
        image = images.iloc[int(np.argmin(per_image))]
        raise InputError(f"{scores}: the {what} of '{image}' is not {expected}; score again")


def rank_pixels(members: pd.DataFrame, maps: Sequence[Maps]) -> Iterator[Ranking | UndefinedMetricError | InputError]:
    """Rank the pixels of a class by the maps of each method.

    Memory holds one batch of maps, and for every method its `Counts`: at most 24 MB each if the results are consumed
    one by one.

    Args:
        members: the rows of the class in the index.
        maps: maps of each method; all of the same size and on the same device.

    Yields:
        For each method its ranking, or the reason why there is none, or the error in its file.

    Raises:
        InputError: an anomalous image has no mask although others of its class have one.
    """
    if (members["label"] < 0).any():
        yield from [UndefinedMetricError(NO_LABELS)] * len(maps)
        return
    if _without_masks(members):
        yield from [UndefinedMetricError("no masks")] * len(maps)
        return
    batches = [members.iloc[start : start + BATCH] for start in range(0, len(members), BATCH)]
    counted = [_no_counts(one, batches) for one in maps]
    try:
        for batch, truth in _truths(members, batches, maps[0].size, maps[0].device):
            for one, counts in zip(maps, counted, strict=True):
                if isinstance(counts, Counts):
                    counts.add(one.final(batch), truth)
    except UndefinedMetricError as error:
        yield from (error if isinstance(counts, Counts) else counts for counts in counted)
        return
    for counts in counted:
        try:
            yield counts.ranking() if isinstance(counts, Counts) else counts
        except UndefinedMetricError as error:
            yield error


def _without_masks(members: pd.DataFrame) -> bool:
    """Return whether a class has anomalous images but no masks; refuse masks for only some of them."""
    anomalous = members[members["label"] == 1]
    unmasked = anomalous[anomalous["mask_path"] == ""]
    if 0 < len(unmasked) < len(anomalous):
        name = members["class_name"].iloc[0]
        raise InputError(
            f"'{unmasked['image'].iloc[0]}' is anomalous and has no mask, but other images of '{name}' have one; "
            "prepare the dataset again"
        )
    return len(unmasked) > 0


def _no_counts(maps: Maps, batches: list[pd.DataFrame]) -> Counts | InputError:
    """Return empty counts with the levels of a class's maps, or the error in these maps."""
    try:
        lowest, highest = zip(*(maps.extremes(batch) for batch in batches), strict=True)
    except InputError as error:
        return error
    return Counts(Levels.between(min(lowest), max(highest)), maps.device)


def _truths(
    members: pd.DataFrame, batches: list[pd.DataFrame], size: int, device: str
) -> Iterator[tuple[pd.DataFrame, Truth]]:
    """Read the masks of a class, batch by batch."""
    masks = masks_at(members, size)
    for batch in batches:
        truth = np.stack([next(masks) for _ in range(len(batch))])
        _check_masks(batch[(batch["label"].to_numpy() == 1) & ~truth.any(axis=(1, 2))], size)
        yield batch, Truth.of(truth, device)


def _check_masks(blank: pd.DataFrame, size: int) -> None:
    """Check anomalous images without an anomalous pixel: the mask is empty, or too fine for this resolution.

    Raises:
        UndefinedMetricError: a mask is empty at its own resolution.
    """
    for image, image_path, mask_path in zip(blank["image"], blank["image_path"], blank["mask_path"], strict=True):
        if not load_mask(mask_path, load_image(image_path).size).any():
            raise UndefinedMetricError(f"the mask of '{image}' is empty")
        logger.warning("%s: nothing is left of its mask at %d x %d; its pixels count as normal", image, size, size)
