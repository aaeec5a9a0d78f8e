"""Scores and anomaly maps of a target dataset: features in, scores.h5 out."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from kanoclip import __version__
from kanoclip.backbones.streams import Streams
from kanoclip.datasets.masks import masks_at
from kanoclip.features import FeatureCache
from kanoclip.files import whole
from kanoclip.methods.base import AnomalyOutput, Batch, Method
from kanoclip.types import InputError, progress


def score(
    method: Method, cache: FeatureCache, frame: pd.DataFrame, streams: Streams, batch_size: int = 32
) -> dict[str, NDArray[np.float32]]:
    """Score every image of a dataset.

    Args:
        method: ready to score, on its device.
        cache: features of the dataset.
        frame: its index, or some rows of it; its labels are rows of the cache. Only a control sees labels and masks.
        streams: what the method reads.
        batch_size: images at once; scores do not depend on it.

    Returns:
        `map` (N, h, w), `image_score`, `image_probability`, `map_score` (N,), all float32.

    Raises:
        InputError: a score or map is not finite.
    """
    method.eval()
    masks = masks_at(frame, method.backbone.config.image_size)
    outputs: list[AnomalyOutput] = []
    starts = range(0, len(frame), batch_size)
    with torch.no_grad():
        for start in progress(starts, "score", len(starts)):
            rows = frame.iloc[start : start + batch_size]
            truth = {}
            if method.sees_truth:
                truth = {
                    "labels": torch.tensor(rows["label"].to_numpy()),
                    "masks": torch.from_numpy(np.stack([next(masks) for _ in range(len(rows))])),
                }
            features = cache.read(rows.index.tolist(), streams).to(method.backbone.device)
            outputs.append(method(Batch(rows["image"].tolist(), rows["class_name"].tolist(), features, **truth)))
    fields = {"map": "map_probability"} | {name: name for name in ("image_score", "image_probability", "map_score")}
    arrays = {
        name: torch.cat([getattr(o, field) for o in outputs]).float().cpu().numpy() for name, field in fields.items()
    }
    for name, values in arrays.items():
        finite = np.isfinite(values).reshape(len(values), -1).all(1)
        if not finite.all():
            raise InputError(f"{frame['image_path'].iloc[int(np.argmin(finite))]}: its {name} is not finite")
    return arrays


def write_scores(
    path: Path, arrays: dict[str, NDArray[np.float32]], frame: pd.DataFrame, attributes: dict[str, Any]
) -> None:
    """Write scores.h5 whole or not at all.

    Args:
        path: the file.
        arrays: from `score`.
        frame: the index that was scored.
        attributes: method, backbone, auxiliary, dataset, seed, sigma, image_size, seconds, learnable_parameters,
            total_parameters; the version is added.
    """
    with whole(path) as temporary, h5py.File(temporary, "w") as file:
        for column in ("image", "class_name"):
            file[column] = np.array(frame[column].tolist(), dtype=h5py.string_dtype())
        for name, values in arrays.items():
            # maps at mask resolution (the oracle's) would be large without it
            file.create_dataset(name, data=values, compression="gzip", compression_opts=1, shuffle=True)
        file.attrs.update({**attributes, "version": __version__})
