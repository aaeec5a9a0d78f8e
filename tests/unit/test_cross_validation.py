"""Compare cross-validation over the classes of an auxiliary dataset with separate training and scoring."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.datasets.index import read_index, write_index
from kanoclip.features import encode
from kanoclip.stages.cross_validation import cross_validate_stage
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.scoring import Scored, score_stage
from kanoclip.stages.training import train_stage
from kanoclip.types import InputError

SMALL = {"width": 16, "heads": 2, "deform_groups": 2, "bottleneck": 8, "prompt_length": 3, "epochs": 1}
FIELDS = "map", "image_score"


def scores_of(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name][:] for name in FIELDS}


@pytest.mark.parametrize("name", ["kanoclip", "mvfa"])
def test_each_class_is_scored_by_a_method_trained_on_the_other(
    name: str,
    index: Path,
    features: Path,
    knowledge: Path,
    backbone: Backbone,
    all_taps: frozenset[Tap],
    tmp_path: Path,
) -> None:
    options = SMALL if name == "kanoclip" else {"epochs": 1}
    whole = Dataset("parts", index, features)
    cross_validate_stage(name, options, whole, knowledge, tmp_path / "cross.h5", 2, 3, "cpu")
    found = scores_of(tmp_path / "cross.h5")
    frame = read_index(index)
    for left_out in ("nut", "bolt"):
        rest = index.with_name(f"without_{left_out}.csv")
        columns = ["image", "mask", "class_name", "label", "defect", "split"]
        write_index(frame.loc[frame["class_name"] != left_out, columns], rest)
        encode(rest, backbone, all_taps, tmp_path / f"{left_out}.h5", batch_size=5)
        alone = Dataset("parts", rest, tmp_path / f"{left_out}.h5")
        out, store = tmp_path / left_out, tmp_path / "store"
        train_stage(name, options, alone, knowledge, out, [3], "cpu", store)
        row = Scored(name, name, out, checkpoint=out / "seed3" / "checkpoint.safetensors")
        score_stage([row], whole, None, "cpu", store)
        expected, rows = scores_of(out / "scores.h5"), frame["class_name"] == left_out
        assert 0 < rows.sum() < len(rows)
        for field in FIELDS:
            np.testing.assert_allclose(found[field][rows], expected[field][rows], atol=1e-5)
    assert not list(tmp_path.glob("*.partial"))


def test_a_training_free_method_scores_as_without_folds(
    index: Path, features: Path, knowledge: Path, tmp_path: Path
) -> None:
    data = Dataset("parts", index, features)
    cross_validate_stage("clip", {}, data, knowledge, tmp_path / "cross.h5", 2, 3, "cpu")
    score_stage([Scored("clip", "clip", tmp_path)], data, None, "cpu", tmp_path / "store")
    found, expected = scores_of(tmp_path / "cross.h5"), scores_of(tmp_path / "scores.h5")
    for field in FIELDS:
        np.testing.assert_allclose(found[field], expected[field], atol=1e-5)


def test_a_kill_loses_no_finished_fold(
    index: Path, features: Path, knowledge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = Dataset("parts", index, features), tmp_path / "cross.h5"
    cross_validate_stage("kanoclip", SMALL, data, knowledge, tmp_path / "whole.h5", 2, 3, "cpu")
    with monkeypatch.context() as killed:
        killed.setattr(
            "kanoclip.stages.cross_validation.write_scores", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            cross_validate_stage("kanoclip", SMALL, data, knowledge, out, 2, 3, "cpu")
    assert len(list(tmp_path.glob("cross.h5.partial/*.pt"))) == 2 and not out.exists()
    monkeypatch.setattr("kanoclip.training.loop._step", None)  # no training step is left
    cross_validate_stage("kanoclip", SMALL, data, knowledge, out, 2, 3, "cpu")
    assert not list(tmp_path.glob("*.partial"))
    first, second = scores_of(tmp_path / "whole.h5"), scores_of(out)
    assert all(np.array_equal(first[field], second[field]) for field in FIELDS)


@pytest.mark.parametrize("folds", [1, 3])
def test_a_number_of_folds_that_does_not_fit_the_classes_is_refused(
    index: Path, features: Path, knowledge: Path, tmp_path: Path, folds: int
) -> None:
    with pytest.raises(InputError, match=f"expected 2 to 2 folds, one class each or more, found {folds}"):
        data = Dataset("parts", index, features)
        cross_validate_stage("clip", {}, data, knowledge, tmp_path / "cross.h5", folds, 3, "cpu")
    assert not (tmp_path / "cross.h5").exists()


def test_a_cache_without_the_taps_for_scoring_is_refused_before_training(
    index: Path, knowledge: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """APRIL-GAN trains without the class token, but scores images with it."""
    encode(index, backbone, [Tap("tokens", block) for block in backbone.quarters], tmp_path / "features.h5")
    data = Dataset("parts", index, tmp_path / "features.h5")
    monkeypatch.setattr("kanoclip.training.loop._step", None)  # no training step may run
    with pytest.raises(InputError, match="needs the tap cls/6, the cache holds tokens/2"):
        cross_validate_stage("april_gan", {"epochs": 1}, data, knowledge, tmp_path / "cross.h5", 2, 3, "cpu")
