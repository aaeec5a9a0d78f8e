"""Test the content of training and pretraining curves."""

import numpy as np
import pandas as pd
import pytest

from kanoclip.report.figures.pretraining import pretraining_curves
from kanoclip.report.figures.training import read_log, training_curves
from kanoclip.types import InputError


def write_log(path, parts, seed=0, more=()):
    frame = pd.DataFrame({"epoch": 0, "step": range(20)})
    for k, part in enumerate(parts):
        frame[f"loss_{part}"] = np.exp(-frame["step"] / 10) + k + 0.1 * seed
    for k, column in enumerate(more):
        frame[column] = (k + 1) / (frame["step"] + 1)
    frame.assign(seconds=1.0).to_csv(path, index=False)
    return path


def test_each_method_has_a_row_with_all_parts_of_its_loss(panels, texts, draw_twice, tmp_path):
    logs = {
        method: [write_log(tmp_path / f"{method}{seed}.csv", parts, seed) for seed in range(2)]
        for method, parts in {"kanoclip": ["total", "focal", "knowledge"], "april_gan": ["total", "focal"]}.items()
    }
    out = draw_twice(lambda path: training_curves(logs, path))
    assert panels(out) == 2
    assert {"kanoclip", "april_gan"} <= set(texts(out))
    assert (texts(out).count("focal"), texts(out).count("knowledge")) == (2, 1)


def test_diagnostics_have_their_own_panels(panels, texts, tmp_path):
    more = ["grad_norm_prompt", "grad_norm_adapter", "lr_prompt", "lr_adapter", "knowledge_active"]
    log = write_log(tmp_path / "train.csv", ["total", "focal"], more=more)
    training_curves({"kanoclip": [log]}, tmp_path / "figure.png")
    assert panels(tmp_path / "figure.png") == 4
    shown = texts(tmp_path / "figure.png")
    assert {"loss", "gradient norm", "learning rate", "share of active hinges"} <= set(shown)
    assert shown.count("adapter") == 2


def test_constant_values_have_no_panel(panels, texts, tmp_path):
    log = write_log(tmp_path / "train.csv", ["total"], more=["lr_adapter", "lr_prompt"])
    frame = pd.read_csv(log).assign(lr_prompt=1e-3, knowledge_active=0.0, loss_total=0.5)
    frame.to_csv(log, index=False)
    frame.assign(lr_adapter=1e-4).to_csv(tmp_path / "constant.csv", index=False)
    training_curves({"kanoclip": [log]}, tmp_path / "figure.png")
    assert panels(tmp_path / "figure.png") == 2  # the loss in any case, and the rate, because it decreases
    training_curves({"kanoclip": [tmp_path / "constant.csv"]}, tmp_path / "constant.png")
    assert panels(tmp_path / "constant.png") == 1
    assert "learning rate" not in texts(tmp_path / "constant.png")


def test_lines_are_running_means_over_one_thirtieth(tmp_path):
    values = np.random.default_rng(0).random(90)
    pd.DataFrame({"step": range(90), "loss_total": values}).to_csv(tmp_path / "train.csv", index=False)
    smooth = read_log(tmp_path / "train.csv")["value"]
    by_hand = [np.mean(values[max(0, step - 2) : step + 1]) for step in range(90)]
    assert smooth.tolist() == pytest.approx(by_hand)


def test_a_loss_of_one_phase_is_drawn_only_in_its_steps(texts, tmp_path):
    """Draw two seeds of a training in two phases, whose train.csv has empty cells."""
    for seed in (1, 2):
        frame = pd.DataFrame({"step": range(60), "loss_total": 1.0 + seed, "loss_text": 0.5, "loss_image": 0.25})
        frame.loc[30:, "loss_text"] = np.nan
        frame.loc[:29, "loss_image"] = np.nan
        frame["grad_norm_image"] = 10.0 ** (frame["step"] % 4)
        frame.to_csv(tmp_path / f"{seed}.csv", index=False)
    lines = read_log(tmp_path / "1.csv").groupby("part")
    assert lines["step"].agg(["min", "max"]).loc["text"].tolist() == [0, 29]
    assert lines["step"].agg(["min", "max"]).loc["image"].tolist() == [0, 59]  # the loss and the gradient norm
    training_curves({"aa_clip": [tmp_path / "1.csv", tmp_path / "2.csv"]}, tmp_path / "figure.png")
    shown = texts(tmp_path / "figure.png")
    assert {"text", "image", "total", "gradient norm", "100"} <= set(shown)
    assert not any("$" in text for text in shown)


def test_a_log_without_losses_is_refused(tmp_path):
    pd.DataFrame({"step": [1], "seconds": [2]}).to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(InputError, match=r"train.csv: expected the columns step and loss_..., found step,seconds"):
        training_curves({"kanoclip": [tmp_path / "train.csv"]}, tmp_path / "figure.png")
    assert not (tmp_path / "figure.png").exists()


@pytest.fixture
def pretraining_logs(tmp_path):
    """Write train.csv and validation.csv of a pretraining with growing images; one set has no kind_top1."""
    losses = {"loss_dense": 1.0, "loss_state": 2.0}
    train = pd.DataFrame({"step": range(10), "size": [64] * 5 + [128] * 5, **losses, "seconds": 1.0})
    columns = {f"{name}_pixel_local": [0.5, 0.75] for name in ("held_out_kinds", "held_out_defects", "seen")}
    validation = pd.DataFrame({"step": [4, 9], **columns, "seen_kind_top1": [0.2, 0.9]})
    train.to_csv(tmp_path / "train.csv", index=False)
    validation.to_csv(tmp_path / "validation.csv", index=False)
    return tmp_path / "train.csv", tmp_path / "validation.csv"


def test_pretraining_has_its_losses_and_one_panel_per_validation_set(pretraining_logs, panels, texts, draw_twice):
    out = draw_twice(lambda path: pretraining_curves(*pretraining_logs, path))
    assert panels(out) == 4
    expected = {"training", "held-out kinds", "held-out defects", "seen kinds and defects", "dense", "kind, top 1"}
    assert expected <= {text.strip() for text in texts(out)}
    assert [text.strip() for text in texts(out) if "px" in text] == ["128 px"]


def test_pretraining_refuses_a_file_that_is_not_a_validation(pretraining_logs, tmp_path):
    train, _ = pretraining_logs
    with pytest.raises(InputError, match=r"train.csv: expected the columns step, held_out_kinds_image_class_token"):
        pretraining_curves(train, train, tmp_path / "figure.png")
