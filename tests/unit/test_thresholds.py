"""Compare the threshold of the auxiliary dataset with scikit-learn, and follow it from training to the metrics."""

import doctest
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from kanoclip import thresholds
from kanoclip.checkpoints import read_record
from kanoclip.datasets.index import read_index
from kanoclip.datasets.masks import masks_at
from kanoclip.metrics.evaluate import evaluate
from kanoclip.resampling import final_map_of
from kanoclip.stages.cross_validation import cross_validate_stage
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.scoring import Scored, score_stage
from kanoclip.stages.training import train_stage
from kanoclip.thresholds import Tally

SMALL = {"width": 16, "heads": 2, "deform_groups": 2, "bottleneck": 8, "prompt_length": 3, "epochs": 1}
SIDE = 32


def test_examples_by_hand() -> None:
    found = doctest.testmod(thresholds)
    assert found.attempted > 0 and found.failed == 0


def rates(truth: np.ndarray, called: np.ndarray) -> tuple[float, float]:
    """Return TPR and FPR by scikit-learn."""
    return recall_score(truth, called), 1 - recall_score(truth, called, pos_label=0)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_no_other_threshold_is_better(index: Path, scale: float) -> None:
    """Try all image scores and 200 thresholds of pixel scores, including methods with tiny pixel scores."""
    frame = read_index(index)
    generator = np.random.default_rng(0)
    labels = frame["label"].to_numpy() == 1
    scores = np.round(generator.random(len(frame)) + 0.2 * labels, 1).astype(np.float32)
    maps = scale * generator.random((len(frame), 4, 4)).astype(np.float32)
    tally = Tally(SIDE)
    for rows in (slice(0, 5), slice(5, None)):
        tally.add(frame[rows], maps[rows], scores[rows], 4.0)
    found = tally.thresholds()
    assert found["images"] == 16
    assert rates(labels, scores >= found["image"]) == pytest.approx((found["image_found"], found["image_false_alarms"]))
    best = max(balanced_accuracy_score(labels, scores >= each) for each in scores)
    assert best == pytest.approx((1 + found["image_found"] - found["image_false_alarms"]) / 2)
    masks = np.stack(list(masks_at(frame, SIDE))).ravel()
    final = np.stack([final_map_of(grid, SIDE, 4.0) for grid in maps]).ravel()
    assert rates(masks, final >= found["pixel"]) == pytest.approx((found["pixel_found"], found["pixel_false_alarms"]))
    tried = [f1_score(masks, final >= each) for each in np.linspace(final.min(), final.max(), 200)]
    assert max(tried) <= f1_score(masks, final >= found["pixel"]) + 1e-3


def test_f1_calls_everything_anomalous_if_scores_are_weak_and_half_is_anomalous(index: Path) -> None:
    """This is why images use balanced accuracy: two overlapping normal distributions with AUROC 0.6."""
    generator = np.random.default_rng(0)
    scores = np.concatenate([generator.normal(0, 1, 800), generator.normal(0.36, 1, 800)]).astype(np.float32)
    labels = np.arange(1600) >= 800
    by_f1 = max(np.quantile(scores, np.linspace(0, 1, 50)), key=lambda each: f1_score(labels, scores >= each))
    assert rates(labels, scores >= by_f1)[1] > 0.8
    frame = pd.concat([read_index(index).iloc[[0]].assign(label=int(label), mask_path="") for label in labels])
    tally = Tally(SIDE)
    tally.add(frame, np.zeros((1600, 2, 2), np.float32), scores, 0.0)
    assert tally.thresholds()["image_false_alarms"] < 0.6


def test_without_masks_there_is_no_pixel_threshold(index: Path) -> None:
    frame = read_index(index).assign(mask_path="")
    tally = Tally(SIDE)
    tally.add(frame, np.zeros((16, 2, 2), np.float32), np.linspace(0, 1, 16, dtype=np.float32), 0.0)
    assert tally.thresholds()["pixel"] is None and tally.thresholds()["image"] is not None


def test_the_threshold_of_a_training_reaches_the_metrics(
    index: Path, features: Path, knowledge: Path, tmp_path: Path
) -> None:
    data, store = Dataset("parts", index, features), tmp_path / "store"
    train_stage("kanoclip", SMALL, data, knowledge, tmp_path, [3, 4], "cpu", store, threshold_folds=2)
    checkpoints = [tmp_path / f"seed{seed}" / "checkpoint.safetensors" for seed in (3, 4)]
    first, second = (read_record(path)["threshold"] for path in checkpoints)
    assert first == second == json.loads((tmp_path / "threshold.json").read_text())
    cross_validate_stage("kanoclip", SMALL, data, knowledge, tmp_path / "cross.h5", 2, 0, "cpu")  # THRESHOLD_SEED
    labels = read_index(index)["label"].to_numpy() == 1
    with h5py.File(tmp_path / "cross.h5") as file:
        found = rates(labels, file["image_score"][:] >= first["image"])
        assert found == pytest.approx((first["image_found"], first["image_false_alarms"]))
    row = Scored("kanoclip", "kanoclip", tmp_path / "scores", checkpoint=checkpoints[0])
    score_stage([row, Scored("clip", "clip", tmp_path / "clip")], data, None, "cpu", store)
    for name in ("scores", "clip"):
        evaluate(tmp_path / name / "scores.h5", index, tmp_path / name / "metrics.csv", bootstrap=0)
    found = pd.read_csv(tmp_path / "scores" / "metrics.csv").set_index(["level", "metric"])
    for level in ("image", "pixel"):
        for metric in ("f1_auxiliary", "fpr_auxiliary"):
            rows = found.loc[(level, metric)]
            assert rows["value"].notna().all()
            assert rows.loc[rows["class_name"] != "mean", "threshold"].unique() == pytest.approx([first[level]])
        assert (
            found.loc[(level, "f1_auxiliary"), "value"] <= found.loc[(level, "f1_max"), "value"].to_numpy() + 1e-9
        ).all()
    of_clip = pd.read_csv(tmp_path / "clip" / "metrics.csv").set_index("metric").loc["f1_auxiliary"]
    assert of_clip["value"].isna().all() and of_clip["reason"].str.contains("not trained").all()


def test_a_dataset_with_too_few_classes_gives_the_reason_for_a_missing_threshold(
    index: Path, features: Path, knowledge: Path, tmp_path: Path
) -> None:
    data = Dataset("parts", index, features)
    train_stage("kanoclip", SMALL, data, knowledge, tmp_path, [3], "cpu", tmp_path / "store", threshold_folds=3)
    record = read_record(tmp_path / "seed3" / "checkpoint.safetensors")
    assert "expected 2 to 2 folds" in record["threshold"]["reason"]


def test_one_fold_leaves_out_half_of_the_classes(index: Path, features: Path, knowledge: Path, tmp_path: Path) -> None:
    data = Dataset("parts", index, features)
    train_stage("kanoclip", SMALL, data, knowledge, tmp_path, [3], "cpu", tmp_path / "store", threshold_folds=1)
    record = read_record(tmp_path / "seed3" / "checkpoint.safetensors")["threshold"]
    assert (record["folds"], record["images"]) == (1, 8) and 0 <= record["image_false_alarms"] <= 1
