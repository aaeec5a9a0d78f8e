"""From scores.h5 and index.csv to metrics.csv: batch by batch, so that memory does not grow with the dataset."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from kanoclip.datasets.index import load_image, load_mask
from kanoclip.datasets.masks import masks_at
from kanoclip.files import whole
from kanoclip.maps import scaled_sigma, upsample_and_smooth
from kanoclip.metrics.counts import Counts, Levels, count
from kanoclip.metrics.ranking import Ranking, UndefinedMetricError, rank
from kanoclip.metrics.results import curves_frame, metrics_frame
from kanoclip.metrics.scores import scored_index
from kanoclip.types import InputError, logger, progress

BATCH = 16  # maps upsampled, smoothed and counted at once


def evaluate(
    scores: Path, index: Path, out: Path, resolution: int | None = None, bootstrap: int = 1000, device: str = "cpu"
) -> None:
    """Write metrics.csv: every metric of every class and its unweighted class mean; and curves.csv beside it.

    Maps are upsampled bilinearly, then smoothed with the Gaussian their method asks for; masks are resized by nearest
    neighbour. The pixels of normal images count as normal.

    Args:
        scores: scores.h5 of one method, target dataset and seed.
        index: index.csv of the target dataset.
        out: metrics.csv.
        resolution: side length in pixels at which maps and masks are compared; default: the image size of the method.
        bootstrap: draws for the intervals of the image metrics; 0 for none.
        device: where maps are upsampled, smoothed and counted.

    Raises:
        InputError: the two files do not list the same images, a score is not finite, a map has values outside 0..1, an
            anomalous image has no mask although others of its class have one.
    """
    with scored_index(scores, index) as (rows, file):
        attributes = dict(file.attrs)
        image_scores = file["image_score"][:]
        _check(scores, rows["image"], np.isfinite(image_scores), "image score", "finite")
        size = int(attributes["image_size"]) if resolution is None else resolution
        maps = _Maps(scores, file["map"], size, scaled_sigma(float(attributes["sigma"]), size), device)
        rankings: dict[tuple[str, str], Ranking | UndefinedMetricError] = {}
        groups = rows.groupby("class_name", sort=True)
        for name, members in progress(groups, f"evaluate {attributes['dataset']}", total=groups.ngroups):
            rankings[str(name), "image"] = _image_ranking(members, image_scores)
            rankings[str(name), "pixel"] = _pixel_ranking(members, maps)
    frame = metrics_frame(rankings, bootstrap)
    for column in ("method", "backbone", "auxiliary", "dataset", "seed"):
        frame[column] = attributes[column]
    with whole(out) as temporary, whole(out.with_name("curves.csv")) as temporary_curves:
        frame.to_csv(temporary, index=False)
        curves_frame(rankings).to_csv(temporary_curves, index=False, float_format="%.9g")


def _check(scores: Path, images: pd.Series, good: NDArray[np.bool_], what: str, expected: str) -> None:
    """Refuse the first image that is not as expected. `good` is (N, ...), one entry an image."""
    per_image = good.reshape(len(good), -1).all(axis=1)
    if not per_image.all():
        image = images.iloc[int(np.argmin(per_image))]
        raise InputError(f"{scores}: the {what} of '{image}' is not {expected}; score again")


def _image_ranking(members: pd.DataFrame, image_scores: NDArray[np.float32]) -> Ranking | UndefinedMetricError:
    anomalous = members["label"].to_numpy() == 1
    class_scores = image_scores[members.index]
    try:
        return rank(class_scores[anomalous], class_scores[~anomalous])
    except UndefinedMetricError as error:
        return error


@dataclass(frozen=True)
class _Maps:
    """The maps of a scores.h5, and how they are made final: size and sigma in pixels."""

    path: Path
    stored: h5py.Dataset
    size: int
    sigma: float
    device: str

    def extremes(self, members: pd.DataFrame) -> tuple[float, float]:
        """The lowest and the highest value; final maps stay within. Refuses what is no probability."""
        stored = self.stored[members.index.to_numpy()]
        _check(self.path, members["image"], (stored >= 0) & (stored <= 1), "map", "finite and in 0..1")
        return float(stored.min()), float(stored.max())

    def final(self, members: pd.DataFrame) -> torch.Tensor:
        """(B, size, size) upsampled and smoothed."""
        stored = torch.from_numpy(self.stored[members.index.to_numpy()]).to(self.device)
        return upsample_and_smooth(stored, (self.size, self.size), self.sigma)


def _pixel_ranking(members: pd.DataFrame, maps: _Maps) -> Ranking | UndefinedMetricError:
    anomalous = members[members["label"] == 1]
    unmasked = anomalous[anomalous["mask_path"] == ""]
    if 0 < len(anomalous) == len(unmasked):
        return UndefinedMetricError("no masks")
    if len(unmasked):
        name = members["class_name"].iloc[0]
        raise InputError(
            f"'{unmasked['image'].iloc[0]}' is anomalous and has no mask, but other images of '{name}' have one; "
            "prepare the dataset again"
        )
    try:
        return reduce(Counts.merge, _counted(members, maps)).ranking()
    except UndefinedMetricError as error:
        return error


def _counted(members: pd.DataFrame, maps: _Maps) -> Iterator[Counts]:
    """The pixels of a class, batch by batch."""
    batches = [members.iloc[start : start + BATCH] for start in range(0, len(members), BATCH)]
    lowest, highest = zip(*(maps.extremes(batch) for batch in batches), strict=True)
    levels = Levels.between(min(lowest), max(highest))
    masks = masks_at(members, maps.size)
    for batch in batches:
        truth = np.stack([next(masks) for _ in range(len(batch))])
        _check_masks(batch[(batch["label"].to_numpy() == 1) & ~truth.any(axis=(1, 2))], maps.size)
        yield count(maps.final(batch), truth, levels)


def _check_masks(blank: pd.DataFrame, size: int) -> None:
    """Anomalous images without an anomalous pixel: their masks are empty, or too fine for this resolution.

    Raises:
        UndefinedMetricError: a mask is empty as it was drawn.
    """
    for image, image_path, mask_path in zip(blank["image"], blank["image_path"], blank["mask_path"], strict=True):
        if not load_mask(mask_path, load_image(image_path).size).any():
            raise UndefinedMetricError(f"the mask of '{image}' is empty")
        logger.warning("%s: nothing is left of its mask at %d x %d; its pixels count as normal", image, size, size)
