"""Choose thresholds where they are not defined, and count pixels that lie exactly at one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kanoclip.config import BackboneConfig
from kanoclip.datasets.index import read_index
from kanoclip.datasets.masks import masks_at
from kanoclip.datasets.prepare import prepare
from kanoclip.datasets.specs import folder_spec
from kanoclip.hdf5 import seal
from kanoclip.metrics.evaluate import evaluate
from kanoclip.metrics.scores_file import SEALED
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.scoring import Scored, score_stage
from kanoclip.stages.training import train_stage
from kanoclip.thresholds import Tally
from kanoclip.types import InputError

SIDE = 32


@pytest.mark.parametrize(("label", "only"), [(0, "normal"), (1, "anomalous")])
def test_images_of_one_label_give_no_threshold(index: Path, label: int, only: str) -> None:
    frame = read_index(index)
    frame = frame[frame["label"] == label]
    tally = Tally(SIDE)
    tally.add(frame, np.zeros((len(frame), 2, 2), np.float32), np.linspace(0, 1, len(frame), dtype=np.float32), 0.0)
    with pytest.raises(
        InputError, match=f"expected normal and anomalous images in the classes left out, found only {only}"
    ):
        tally.thresholds()


def test_masks_that_vanish_at_the_size_of_the_maps_give_no_pixel_threshold(index: Path, tmp_path: Path) -> None:
    dot = np.zeros((40, 48), np.uint8)  # of the images
    dot[0, 0] = 255
    Image.fromarray(dot).save(tmp_path / "dot.png")
    frame = read_index(index)
    frame = frame.assign(mask_path=np.where(frame["label"] == 1, str(tmp_path / "dot.png"), ""))
    assert not np.stack(list(masks_at(frame, 16))).any()
    tally = Tally(16)
    tally.add(frame, np.full((16, 4, 4), 0.5, np.float32), frame["label"].to_numpy(np.float32), 4.0)
    found = tally.thresholds()
    assert (found["image"], found["pixel"], found["pixel_found"]) == (1.0, None, None)


def test_a_left_out_class_of_one_label_gives_the_reason_for_a_missing_threshold(
    tmp_path: Path, knowledge: Path, tiny_config: BackboneConfig, write_folder: Callable[..., Path]
) -> None:
    write_folder(tmp_path / "images")
    shutil.rmtree(tmp_path / "images" / "bolt" / "test" / "good")  # `bolt` comes first, so it is left out
    prepare(folder_spec("parts", {}), tmp_path / "index.csv", tmp_path, tmp_path / "images")
    data = Dataset("parts", tmp_path / "index.csv", backbone=tiny_config)
    train_stage("april_gan", {"epochs": 1}, data, knowledge, tmp_path, [1], "cpu", tmp_path / "s", threshold_folds=1)
    assert "found only anomalous" in json.loads((tmp_path / "threshold.json").read_text())["reason"]


def test_damaged_features_are_an_error_and_not_a_missing_threshold(
    index: Path, features: Path, knowledge: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "features.h5"
    shutil.copy(features, damaged)
    with h5py.File(damaged, "r+") as file:
        file["vv/6"][0] += 1
    data = Dataset("parts", index, damaged)
    options = {"epochs": 1, "width": 16, "heads": 2, "deform_groups": 2, "bottleneck": 8, "prompt_length": 3}
    with pytest.raises(InputError, match="vv/6 of image 0 is not what was written"):
        train_stage("kanoclip", options, data, knowledge, tmp_path, [1], "cpu", tmp_path / "s", threshold_folds=1)
    assert not (tmp_path / "threshold.json").exists()


@pytest.mark.parametrize("value", [0.3001, 0.05003, 0.7003])
def test_pixels_at_the_threshold_are_above_it_in_the_metrics_too(
    index: Path, tmp_path: Path, tiny_config: BackboneConfig, value: float
) -> None:
    """Saturated maps are counted most coarsely: 0 on normal pixels, `value` on defects, and one pixel of 1."""
    data = Dataset("parts", index, backbone=tiny_config)
    score_stage([Scored("clip", "clip", tmp_path)], data, None, "cpu", tmp_path / "store")
    frame = read_index(index)
    masks = np.stack(list(masks_at(frame, SIDE)))
    maps = np.where(masks, np.float32(value), np.float32(0))
    for number in np.flatnonzero(masks.any((1, 2))):
        maps[number].flat[np.flatnonzero(masks[number])[0]] = 1
    tally = Tally(SIDE)
    tally.add(frame, maps, frame["label"].to_numpy(np.float32), 0.0)
    copy = tmp_path / "copy.h5"  # not the store's file, to which scores.h5 may be linked
    shutil.copy(tmp_path / "scores.h5", copy)
    with h5py.File(copy, "r+") as file:
        del file["map"]
        file["map"] = maps
        del file.attrs["no_threshold"]
        file.attrs.update(sigma=0.0, threshold_image=0.5, threshold_pixel=tally.thresholds()["pixel"])
        seal(file, SEALED)
    evaluate(copy, index, tmp_path / "metrics.csv", bootstrap=0)
    found = pd.read_csv(tmp_path / "metrics.csv").set_index(["level", "metric"])
    assert found.loc[("pixel", "f1_auxiliary"), "value"].tolist() == [1, 1, 1]  # two classes and their mean
