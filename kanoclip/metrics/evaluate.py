"""From scores.h5 and index.csv to metrics.csv: class by class, so that memory is bounded by the largest class."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from kanoclip.datasets.masks import masks_at
from kanoclip.files import whole
from kanoclip.maps import scaled_sigma, smooth, upsample
from kanoclip.metrics.aupro import region_weights
from kanoclip.metrics.ranking import Ranking, UndefinedMetricError, rank
from kanoclip.metrics.registry import MEAN, METRICS_COLUMNS, metrics_of
from kanoclip.metrics.scores import scored_index
from kanoclip.types import InputError, progress

BATCH = 16  # maps upsampled and smoothed at once


@dataclass(frozen=True)
class Result:
    """One value of metrics.csv, or the reason why there is none (value is then NaN)."""

    class_name: str
    level: str
    metric: str
    value: float
    reason: str


def evaluate(scores: Path, index: Path, out: Path, resolution: int | None = None) -> None:
    """Write metrics.csv: every metric of every class and its unweighted class mean.

    Maps are upsampled bilinearly, then smoothed with the Gaussian their method asks for; masks are resized by nearest
    neighbour. The pixels of normal images count as normal.

    Args:
        scores: scores.h5 of one method, target dataset and seed.
        index: index.csv of the target dataset.
        out: metrics.csv.
        resolution: side length in pixels at which maps and masks are compared; default: the image size of the method.

    Raises:
        InputError: the two files do not list the same images, a map or score is not finite, an anomalous image has no
            mask although others of its class have one.
    """
    with scored_index(scores, index) as (rows, file):
        attributes = dict(file.attrs)
        image_scores = file["image_score"][:]
        _check_finite(scores, "image score", image_scores, rows["image"])
        size = int(attributes["image_size"]) if resolution is None else resolution
        sigma = scaled_sigma(float(attributes["sigma"]), size)
        results = []
        groups = rows.groupby("class_name", sort=True)
        for class_name, members in progress(groups, f"evaluate {attributes['dataset']}", total=groups.ngroups):
            results += _image_results(str(class_name), members, image_scores)
            results += _pixel_results(str(class_name), members, scores, file["map"], size, sigma)
    frame = pd.DataFrame(results + _means(results))
    for column in ("method", "backbone", "auxiliary", "dataset", "seed"):
        frame[column] = attributes[column]
    with whole(out) as temporary:
        frame.reindex(columns=METRICS_COLUMNS).to_csv(temporary, index=False)


def _check_finite(scores: Path, what: str, values: NDArray[np.floating], images: pd.Series) -> None:
    """Refuse NaN and infinity, naming the first image that has one. `values` is (N, ...), one entry an image."""
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        raise InputError(f"{scores}: the {what} of '{images.iloc[int(np.argmin(finite))]}' is not finite; score again")


def _image_results(class_name: str, members: pd.DataFrame, image_scores: NDArray[np.float32]) -> list[Result]:
    anomalous = members["label"].to_numpy() == 1
    class_scores = image_scores[members.index]
    try:
        return _computed(class_name, "image", rank(class_scores[anomalous], class_scores[~anomalous]))
    except UndefinedMetricError as error:
        return _missing(class_name, "image", str(error))


def _pixel_results(
    class_name: str, members: pd.DataFrame, scores: Path, maps: h5py.Dataset, size: int, sigma: float
) -> list[Result]:
    unmasked = members[(members["label"] == 1) & (members["mask_path"] == "")]
    n_anomalous = int((members["label"] == 1).sum())
    if 0 < n_anomalous == len(unmasked):
        return _missing(class_name, "pixel", "no masks")
    if len(unmasked):
        raise InputError(
            f"'{unmasked['image'].iloc[0]}' is anomalous and has no mask, but other images of '{class_name}' have one; "
            "prepare the dataset again"
        )
    try:
        return _computed(class_name, "pixel", _rank_pixels(members, scores, maps, size, sigma))
    except UndefinedMetricError as error:
        return _missing(class_name, "pixel", str(error))


def _rank_pixels(members: pd.DataFrame, scores: Path, maps: h5py.Dataset, size: int, sigma: float) -> Ranking:
    """Rank all pixels of a class; each pixel is kept once, as float32."""
    positives, weights = [], []
    negatives = np.empty(len(members) * size * size, dtype=np.float32)
    n_negatives = 0
    masks = masks_at(members, size)
    for start in range(0, len(members), BATCH):
        batch = members.iloc[start : start + BATCH]
        grid = maps[batch.index.to_numpy()]
        _check_finite(scores, "map", grid, batch["image"])
        full = smooth(upsample(torch.from_numpy(grid), (size, size)), sigma).numpy()
        for anomaly_map, mask in zip(full, masks, strict=False):  # `masks` runs on over the batches
            positives.append(anomaly_map[mask])
            weights.append(region_weights(mask))
            normal = anomaly_map[~mask]
            negatives[n_negatives : n_negatives + normal.size] = normal
            n_negatives += normal.size
    return rank(np.concatenate(positives), negatives[:n_negatives], np.concatenate(weights))


def _computed(class_name: str, level: str, ranking: Ranking) -> list[Result]:
    return [Result(class_name, level, known.name, known.compute(ranking), "") for known in metrics_of(level)]


def _missing(class_name: str, level: str, reason: str) -> list[Result]:
    return [Result(class_name, level, known.name, float("nan"), reason) for known in metrics_of(level)]


def _means(results: list[Result]) -> list[Result]:
    """The unweighted class mean of each metric; missing, with the reason, when it is missing for any class."""
    means = []
    for level, name in dict.fromkeys((result.level, result.metric) for result in results):
        of_metric = [result for result in results if (result.level, result.metric) == (level, name)]
        value = float(np.mean([result.value for result in of_metric]))
        means.append(Result(MEAN, level, name, value, _common_reason(of_metric)))
    return means


def _common_reason(results: list[Result]) -> str:
    missing = [result for result in results if result.reason]
    reasons = {result.reason for result in missing}
    if len(missing) == len(results) and len(reasons) == 1:
        return missing[0].reason
    return "; ".join(f"{result.class_name}: {result.reason}" for result in missing)
