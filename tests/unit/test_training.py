import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open

from kanoclip.backbones.clip import Backbone
from kanoclip.datasets.index import read_index
from kanoclip.features import FeatureCache
from kanoclip.methods.kanoclip.model import KAnoCLIP, KAnoCLIPOptions
from kanoclip.stages import EncodedDataset, score_stage, train_stage
from kanoclip.training import check_trainable, fit
from kanoclip.types import InputError

SMALL = {"width": 16, "heads": 2, "deform_groups": 2, "bottleneck": 8, "prompt_length": 3, "epochs": 2}


@pytest.fixture
def knowledge(tmp_path: Path) -> Path:
    path = tmp_path / "knowledge.jsonl"
    lines = [{"class_name": name, "source": "curated", "text": f"a cracked {name}"} for name in ("nut", "bolt")]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def train(index: Path, features: Path, knowledge: Path, out: Path, seed: int = 3, **changes: object) -> Path:
    data = EncodedDataset("parts", index, features)
    train_stage("kanoclip", SMALL | changes, data, knowledge, out / "c.safetensors", out / "train.csv", seed, "cpu")
    return out / "c.safetensors"


def test_training_is_repeatable_to_the_bit(index: Path, features: Path, knowledge: Path, tmp_path: Path) -> None:
    first = train(index, features, knowledge, tmp_path / "a").read_bytes()
    assert train(index, features, knowledge, tmp_path / "b").read_bytes() == first
    assert train(index, features, knowledge, tmp_path / "c", seed=4).read_bytes() != first


def test_train_csv(index: Path, features: Path, knowledge: Path, tmp_path: Path) -> None:
    train(index, features, knowledge, tmp_path, batch_size=5)
    log = pd.read_csv(tmp_path / "train.csv")
    assert log["epoch"].tolist() == [1] * 4 + [2] * 4  # 16 images in batches of 5
    assert log["step"].tolist() == list(range(1, 9))
    parts = [column for column in log if column.startswith("loss_") and column != "loss_total"]
    assert len(parts) == 5
    np.testing.assert_allclose(log[parts].sum(axis=1), log["loss_total"], rtol=1e-4)


def test_training_lowers_the_loss(index: Path, features: Path, knowledge: Path, tmp_path: Path) -> None:
    train(index, features, knowledge, tmp_path, epochs=15, learning_rate=3e-3)
    losses = pd.read_csv(tmp_path / "train.csv").groupby("epoch")["loss_total"].mean()
    assert losses.iloc[-3:].mean() < 0.8 * losses.iloc[0]


def test_checkpoint_knows_everything(
    index: Path, features: Path, knowledge: Path, tmp_path: Path, backbone: Backbone
) -> None:
    path = train(index, features, knowledge, tmp_path)
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["kanoclip"])
        names = set(file.keys())
    assert record["method"] == "kanoclip" and record["auxiliary"] == "parts" and record["seed"] == 3
    assert record["options"] == KAnoCLIPOptions(**SMALL).model_dump(mode="json")
    assert record["weights_sha256"] == backbone.weights_sha256
    assert record["backbone"]["image_size"] == 32
    assert "prompts.context" in names and not any("clip" in name for name in names)


def test_scores_come_back_from_the_checkpoint(
    index: Path, features: Path, knowledge: Path, tmp_path: Path, backbone: Backbone
) -> None:
    """Saved and loaded parameters are the trained ones: the same scores as without the file in between."""
    import h5py

    from kanoclip.scoring import score

    path = train(index, features, knowledge, tmp_path)
    data = EncodedDataset("parts", index, features)
    score_stage("kanoclip", {}, data, tmp_path / "scores.h5", path, 0, "cpu", backbone_name="tiny")
    frame = read_index(index)
    cache = FeatureCache(features, frame["image"].tolist())
    options = KAnoCLIPOptions(**SMALL)
    torch.manual_seed(3)
    method = KAnoCLIP(backbone, options, 3)
    method.learn_knowledge({"nut": ["a cracked nut"], "bolt": ["a cracked bolt"]})
    streams = KAnoCLIP.streams(options, backbone.quarters, backbone.layers)
    fit(method, cache, frame, streams, options, tmp_path / "again.csv")
    expected = score(method, cache, frame, streams)
    with h5py.File(tmp_path / "scores.h5") as file:
        assert np.array_equal(file["map"][:], expected["map"])
        assert np.array_equal(file["image_score"][:], expected["image_score"])
        assert dict(file.attrs) | {"version": ""} == {
            "method": "kanoclip",
            "backbone": "tiny",
            "auxiliary": "parts",
            "dataset": "parts",
            "seed": 3,
            "sigma": 4.0,
            "image_size": 32,
            "version": "",
        }


def test_foreign_checkpoints_are_refused(index: Path, features: Path, knowledge: Path, tmp_path: Path) -> None:
    path = train(index, features, knowledge, tmp_path)

    def refusal(method: str, checkpoint: Path | None) -> str:
        data = EncodedDataset("parts", index, features)
        with pytest.raises(InputError) as caught:
            score_stage(method, {}, data, tmp_path / "scores.h5", checkpoint, 0, "cpu")
        assert not (tmp_path / "scores.h5").exists()
        return str(caught.value)

    assert "needs a checkpoint" in refusal("kanoclip", None)
    assert "takes no checkpoint" in refusal("clip", path)
    assert "found another kind of file" in refusal("kanoclip", index)
    assert "found no file" in refusal("kanoclip", tmp_path / "nowhere")
    renamed, reshaped, moved = (tmp_path / f"{name}.safetensors" for name in ("renamed", "reshaped", "moved"))
    blob = path.read_bytes()
    renamed.write_bytes(blob.replace(b'\\"method\\": \\"kanoclip\\"', b'\\"method\\": \\"otherone\\"'))
    assert "expected a checkpoint of kanoclip, found one of otherone" in refusal("kanoclip", renamed)
    reshaped.write_bytes(blob.replace(b'\\"width\\": 16', b'\\"width\\": 32'))
    assert "parameter stages.2.text_attention.in_proj_bias: expected (96,), found (48,)" in refusal(
        "kanoclip", reshaped
    )
    moved.write_bytes(blob.replace(b'\\"image_size\\": 32', b'\\"image_size\\": 64'))
    assert "trained on another backbone" in refusal("kanoclip", moved)


def test_non_finite_loss_names_the_images(
    index: Path, features: Path, knowledge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KAnoCLIP, "losses", lambda self, batch: {"global": self.prompts.context.sum() * float("nan")})
    with pytest.raises(InputError, match=r"not finite in epoch 1: .*; images: images/"):
        train(index, features, knowledge, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_untrainable_data_is_refused(index: Path) -> None:
    frame = read_index(index)
    with pytest.raises(InputError, match="found only label 0"):
        check_trainable(frame[frame["label"] == 0], index)
    with pytest.raises(InputError, match="needs a mask for every anomalous image, found none for images/"):
        check_trainable(frame.assign(mask_path=""), index)


def test_knowledge_must_cover_the_classes(index: Path, features: Path, tmp_path: Path) -> None:
    path = tmp_path / "knowledge.jsonl"
    path.write_text(json.dumps({"class_name": "nut", "source": "curated", "text": "a bad nut"}) + "\n")
    with pytest.raises(InputError, match="no description of bolt"):
        train(index, features, path, tmp_path)
    path.write_text("{}\n")
    with pytest.raises(InputError, match="knowledge.jsonl, line 1: expected a description"):
        train(index, features, path, tmp_path)
