"""Thresholds in the package for training-free methods are computed as documented and used only where they apply."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

import kanoclip
from kanoclip.backbones.clip import load_backbone
from kanoclip.config import BackboneConfig
from kanoclip.datasets.index import read_index
from kanoclip.predict.guesses import SHIPPED
from kanoclip.predict.guessing import guesses


def test_a_guessed_threshold_has_the_best_balanced_accuracy(index: Path) -> None:
    frame = read_index(index)
    backbone = load_backbone(BackboneConfig(model="kanoclip-tiny", weights="embedded", image_size=128), "cpu")
    found = guesses(frame, backbone, ["clip"])["clip"]
    scores = np.empty(len(frame), np.float32)
    for name, rows in frame.groupby("class_name"):  # scored another way, image by image
        detector = kanoclip.load("clip", class_name=str(name), threads=1)
        scores[rows.index] = detector.scores(Path(path) for path in rows["image_path"])
    labels = frame["label"] == 1
    best = max(balanced_accuracy_score(labels, scores >= each) for each in scores)
    assert best == pytest.approx((1 + found["image_found"] - found["image_false_alarms"]) / 2)
    assert np.abs(scores - found["image"]).min() < 1e-5


def test_guesses_apply_only_to_the_embedded_backbone_and_default_options() -> None:
    shipped = json.loads(SHIPPED.read_text())["methods"]
    assert "clip" in shipped and "winclip" in shipped
    found = kanoclip.load("clip").threshold
    assert (found.image, found.pixel) == (shipped["clip"]["image"], shipped["clip"]["pixel"])
    assert "on its images" in found.words and "left out" not in found.words
    for other in (
        kanoclip.load("clip", image_size=64),
        kanoclip.load("clip", weights="random:0", backbone="kanoclip-tiny"),
        kanoclip.load("local_contrast"),
        kanoclip.load("winclip", options={"temperature": 0.5}),
    ):
        assert other.threshold.image is None and "--normals" in other.threshold.words
