import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from kanoclip import __version__
from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.datasets.index import content, read_index
from kanoclip.datasets.masks import masks_at
from kanoclip.features import CachedFeatures, FeatureCache
from kanoclip.methods.kanoclip_paper.model import KAnoCLIP, KAnoCLIPOptions
from kanoclip.methods.phases import Schedule
from kanoclip.result_store import Store
from kanoclip.scoring import score
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.scoring import Scored, score_stage
from kanoclip.stages.training import train_stage
from kanoclip.training import TrainingData, TrainingState, check_trainable, fit
from kanoclip.training.loop import gradient_norm
from kanoclip.types import InputError

SMALL = {"width": 16, "heads": 2, "deform_groups": 2, "bottleneck": 8, "prompt_length": 3, "epochs": 2}


def train(index: Path, features: Path, knowledge: Path, out: Path, seed: int = 3, **changes: object) -> Path:
    """Train KAnoCLIP with one seed and return the path of the checkpoint; train.csv is beside it."""
    data = Dataset("parts", index, features)
    train_stage("kanoclip", SMALL | changes, data, knowledge, out, [seed], "cpu", out / "store")
    return out / f"seed{seed}" / "checkpoint.safetensors"


def test_repeated_trainings_give_identical_parameters(
    index: Path, features: Path, knowledge: Path, tmp_path: Path
) -> None:
    first = train(index, features, knowledge, tmp_path / "a").read_bytes()
    assert train(index, features, knowledge, tmp_path / "b").read_bytes() == first
    assert train(index, features, knowledge, tmp_path / "c", seed=4).read_bytes() != first


def test_train_csv_has_a_row_per_step(index: Path, features: Path, knowledge: Path, tmp_path: Path) -> None:
    checkpoint = train(index, features, knowledge, tmp_path, batch_size=5)
    log = pd.read_csv(checkpoint.with_name("train.csv"))
    assert log.columns[0] == "phase" and set(log["phase"]) == {"train"}
    assert log["epoch"].tolist() == [1] * 4 + [2] * 4  # 16 images in batches of 5
    assert log["step"].tolist() == list(range(1, 9))
    parts = [column for column in log if column.startswith("loss_") and column != "loss_total"]
    assert len(parts) == 5
    np.testing.assert_allclose(log[parts].sum(axis=1), log["loss_total"], rtol=1e-4)
    assert (log[["grad_norm_prompts", "grad_norm_heads"]] > 0).all(axis=None)
    assert set(log["lr_prompts"]) == {1e-3} and set(log["lr_heads"]) == {1e-4}
    assert log["seconds"].is_monotonic_increasing
    assert not any((tmp_path / "store" / "partial").iterdir())


def test_a_killed_training_is_resumed_with_identical_results(
    index: Path, features: Path, knowledge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop it in the third of four epochs and resume it: the result is identical to an uninterrupted training."""
    whole = train(index, features, knowledge, tmp_path / "whole", epochs=4, schedule="cosine", warm_up_steps=3)
    losses, calls = KAnoCLIP.losses, 0

    def cut_off(self, batch):
        nonlocal calls
        calls += 1
        if calls == 6:  # two batches per epoch
            raise KeyboardInterrupt
        return losses(self, batch)

    changes = {"epochs": 4, "schedule": "cosine", "warm_up_steps": 3}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(KAnoCLIP, "losses", cut_off)
        train(index, features, knowledge, tmp_path / "cut", **changes)
    assert not (tmp_path / "cut" / "seed3").exists()
    calls = 0
    with monkeypatch.context() as patch:
        patch.setattr(KAnoCLIP, "losses", lambda self, batch: count() or losses(self, batch))

        def count() -> None:
            nonlocal calls
            calls += 1

        again = train(index, features, knowledge, tmp_path / "cut", **changes)
    assert calls == 4  # two epochs were left
    assert again.read_bytes() == whole.read_bytes()
    first, second = (
        pd.read_csv(tmp_path / name / "seed3" / "train.csv").drop(columns="seconds") for name in ("whole", "cut")
    )
    pd.testing.assert_frame_equal(first, second)


def test_the_state_of_another_training_is_not_resumed(
    index: Path, features: Path, knowledge: Path, tmp_path: Path
) -> None:
    fresh = train(index, features, knowledge, tmp_path / "fresh").read_bytes()
    (key,) = [entry.name for entry in (tmp_path / "fresh" / "store" / "kept").iterdir()]

    def with_state_of(name: str) -> Path:
        return Store(tmp_path / name / "store").partial(key) / "state.pt"

    with_state_of("spoiled").write_bytes(b"half a file")
    assert train(index, features, knowledge, tmp_path / "spoiled").read_bytes() == fresh
    state = {"fingerprint": "another", "phase": 0, "epoch": 1, "step": 2, "rows": [], "learned": {}, "optimizer": {}}
    torch.save(state, with_state_of("foreign"))
    assert train(index, features, knowledge, tmp_path / "foreign").read_bytes() == fresh


def test_learning_rates_equal_values_by_hand() -> None:
    warm = Schedule(warm_up_steps=3)
    assert [warm.factor(step, 10) for step in (0, 1, 3, 9)] == [0.25, 0.5, 1.0, 1.0]
    cosine = Schedule("cosine")
    np.testing.assert_allclose([cosine.factor(step, 10) for step in (0, 5, 10)], [1.0, 0.5, 0.0], atol=1e-12)
    steps = Schedule("steps", milestones=(3, 6), gamma=0.1)
    np.testing.assert_allclose([steps.factor(step, 10) for step in (0, 2, 3, 5, 6, 9)], [1, 1, 0.1, 0.1, 0.01, 0.01])
    both = Schedule("steps", warm_up_steps=4, milestones=(2,))
    np.testing.assert_allclose([both.factor(step, 10) for step in (0, 1, 2, 4)], [0.2, 0.4, 0.3, 0.5])


def test_the_gradient_norm_equals_a_value_by_hand() -> None:
    a, b, unused = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True), torch.zeros(1)
    (3 * a[0] + 4 * b).sum().backward()
    assert gradient_norm([a, b, unused]) == 5.0
    assert gradient_norm([unused]) == 0.0


def test_batches_hold_the_requested_rows(
    index: Path, features: Path, all_taps: frozenset[Tap], backbone: Backbone
) -> None:
    """Check also data that are a part of a larger source."""
    frame = read_index(index)
    source = CachedFeatures(FeatureCache(features, frame), backbone)
    some = frame[frame["class_name"] == "nut"]
    order = [[5, 0, 3], [1]]
    batches = list(TrainingData(source, some, 32).batches(order, all_taps))
    for rows, batch in zip(order, batches, strict=True):
        chosen = some.iloc[rows]
        assert batch.images == chosen["image"].tolist() and batch.class_names == ["nut"] * len(rows)
        assert batch.labels.tolist() == chosen["label"].tolist()
        assert np.array_equal(batch.masks, np.stack(list(masks_at(chosen, 32))))
        expected = next(iter(source.stream([chosen.index.tolist()], all_taps)))
        assert all(torch.equal(batch.features[tap], expected[tap]) for tap in all_taps)


def test_masks_are_resized_by_the_option_of_masks(index: Path, features: Path, backbone: Backbone) -> None:
    frame = read_index(index)
    source = CachedFeatures(FeatureCache(features, frame), backbone)
    nearest, bilinear = (TrainingData(source, frame, 32, resize=resize).masks for resize in ("nearest", "bilinear"))
    assert np.array_equal(bilinear, np.stack(list(masks_at(frame, 32, "bilinear"))))
    assert not torch.equal(nearest, bilinear)


def test_the_option_of_masks_changes_the_training(index: Path, features: Path, knowledge: Path, tmp_path: Path) -> None:
    curves = [
        train(index, features, knowledge, tmp_path / resize, epochs=1, mask_resize=resize).with_name("train.csv")
        for resize in ("nearest", "bilinear")
    ]
    first, second = (pd.read_csv(path)["loss_total"].tolist() for path in curves)
    assert first != second


def test_training_lowers_the_loss(index: Path, features: Path, knowledge: Path, tmp_path: Path) -> None:
    checkpoint = train(index, features, knowledge, tmp_path, epochs=15, learning_rate=3e-3)
    losses = pd.read_csv(checkpoint.with_name("train.csv")).groupby("epoch")["loss_total"].mean()
    assert losses.iloc[-3:].mean() < 0.8 * losses.iloc[0]


def test_the_checkpoint_records_the_training(
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


def test_a_loaded_checkpoint_gives_the_same_scores(
    index: Path, features: Path, knowledge: Path, tmp_path: Path, backbone: Backbone
) -> None:
    """Saved and loaded parameters equal the trained ones, so scores are the same as without the file."""
    path = train(index, features, knowledge, tmp_path)
    row = Scored("row", "kanoclip", tmp_path, checkpoint=path)
    score_stage([row], Dataset("parts", index, features), "tiny", "cpu", tmp_path / "store")
    frame = read_index(index)
    source = CachedFeatures(FeatureCache(features, frame), backbone)
    options = KAnoCLIPOptions(**SMALL)
    torch.manual_seed(3)
    method = KAnoCLIP(backbone, options, 3)
    method.learn_knowledge({"nut": ["a cracked nut"], "bolt": ["a cracked bolt"]})
    fit(method, TrainingData(source, frame, 32), TrainingState(tmp_path / "partial", "same"))
    maps, scores = score(method, source, frame)
    with h5py.File(tmp_path / "scores.h5") as file:
        assert np.array_equal(file["map"][:], maps)
        assert np.array_equal(file["image_score"][:], scores)
        told = dict(file.attrs)
        assert told.pop("content") == content(frame) and len(told.pop("digest")) == 64
        assert told == {
            "method": "row",
            "backbone": "tiny",
            "auxiliary": "parts",
            "dataset": "parts",
            "seed": 3,
            "sigma": 4.0,
            "image_size": 32,
            "no_threshold": "trained without choosing a threshold",
            "version": __version__,
        }
    cost = json.loads((tmp_path / "cost.json").read_text())
    assert 0 < cost.pop("seconds") < 60
    # the content of the checkpoint and the frozen towers
    learnable = sum(tensor.size for tensor in load_file(path).values())
    assert cost.pop("learnable_parameters") == learnable
    assert cost.pop("total_parameters") == learnable + sum(parameter.numel() for parameter in backbone.parameters())
    names = {"method": "row", "backbone": "tiny", "auxiliary": "parts", "dataset": "parts", "seed": 3}
    assert {key: value for key, value in cost.items() if not key.startswith("pass")} == {**names, "images": 16}


def test_foreign_checkpoints_are_refused(index: Path, features: Path, knowledge: Path, tmp_path: Path) -> None:
    path = train(index, features, knowledge, tmp_path)

    def refusal(method: str, checkpoint: Path | None) -> str:
        row = Scored(method, method, tmp_path, checkpoint=checkpoint)
        with pytest.raises(InputError) as caught:
            score_stage([row], Dataset("parts", index, features), None, "cpu", tmp_path / "store")
        assert not (tmp_path / "scores.h5").exists()
        return str(caught.value)

    assert "needs a checkpoint" in refusal("kanoclip", None)
    assert "takes no checkpoint" in refusal("clip", path)
    assert "found another kind of file" in refusal("kanoclip", index)
    assert "found no file" in refusal("kanoclip", tmp_path / "nowhere")
    renamed, reshaped, moved = (tmp_path / f"{name}.safetensors" for name in ("renamed", "reshaped", "moved"))
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(path.read_bytes().replace(b'\\"seed\\": 3', b'\\"seed\\": 4'))
    assert "damaged: its content is not what was written; train again" in refusal("kanoclip", damaged)
    # like files of an older version, without a digest
    blob = path.read_bytes().replace(b'\\"format\\": 3', b'\\"format\\": 2').replace(b'\\"digest\\"', b'\\"unused\\"')
    renamed.write_bytes(blob.replace(b'\\"method\\": \\"kanoclip\\"', b'\\"method\\": \\"otherone\\"'))
    assert "expected a checkpoint of kanoclip, found one of otherone" in refusal("kanoclip", renamed)
    reshaped.write_bytes(blob.replace(b'\\"width\\": 16', b'\\"width\\": 32'))
    assert "text_to_vision.attention.in_proj_bias: expected (96,), found (48,)" in refusal("kanoclip", reshaped)
    moved.write_bytes(blob.replace(b'\\"image_size\\": 32', b'\\"image_size\\": 64'))
    assert "trained on another backbone" in refusal("kanoclip", moved)


def test_the_error_on_a_non_finite_loss_names_the_images(
    index: Path, features: Path, knowledge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KAnoCLIP, "losses", lambda self, batch: {"global": self.prompts.context.sum() * float("nan")})
    with pytest.raises(InputError, match=r"not finite in epoch 1: .*; images: images/"):
        train(index, features, knowledge, tmp_path / "out")
    assert not (tmp_path / "out" / "seed3").exists()


def test_data_that_cannot_be_trained_on_are_refused(index: Path) -> None:
    frame = read_index(index)
    with pytest.raises(InputError, match="found only label 0"):
        check_trainable(frame[frame["label"] == 0], index)
    with pytest.raises(InputError, match="needs a mask for every anomalous image, found none for images/"):
        check_trainable(frame.assign(mask_path=""), index)


def test_descriptions_of_single_images_reach_the_method(
    index: Path, features: Path, knowledge: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="needs descriptions of single images"):
        train(index, features, knowledge, tmp_path / "none", knowledge_scope="image")
    image = read_index(index).query("label == 1")["image"].iloc[0]
    line = {"class_name": "nut", "source": "mask", "text": "a nut with a small dark spot", "image": image}
    knowledge.write_text(knowledge.read_text() + json.dumps(line) + "\n")
    of_images = train(index, features, knowledge, tmp_path / "image", knowledge_scope="image").read_bytes()
    assert of_images != train(index, features, knowledge, tmp_path / "class").read_bytes()


def test_a_knowledge_base_that_lacks_a_class_is_refused(index: Path, features: Path, tmp_path: Path) -> None:
    path = tmp_path / "knowledge.jsonl"
    path.write_text(json.dumps({"class_name": "nut", "source": "curated", "text": "a bad nut"}) + "\n")
    with pytest.raises(InputError, match="no description of bolt"):
        train(index, features, path, tmp_path)
    path.write_text("{}\n")
    with pytest.raises(InputError, match="knowledge.jsonl, line 1: expected a description"):
        train(index, features, path, tmp_path)
