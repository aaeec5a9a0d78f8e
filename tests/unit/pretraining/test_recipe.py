import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from kanoclip.backbones.clip import load_backbone
from kanoclip.config import BackboneConfig, PretrainingConfig
from kanoclip.datasets.synthetic import Facts, render
from kanoclip.pretraining import recipe
from kanoclip.pretraining.averaging import DECIDING, merit
from kanoclip.pretraining.corpus import draw_corpus, numbers_of
from kanoclip.pretraining.image import ImageTraining
from kanoclip.pretraining.recipe import export, pretrain
from kanoclip.pretraining.stages import LEARNING_RATE, PEAK, Stage, drawn_stages, learning_rate, real_stages
from kanoclip.pretraining.text import stand_in_token, used_tokens

CONFIG = BackboneConfig(model="kanoclip-tiny", weights="random:0", image_size=128)
FROZEN = ("visual.conv1.network.", "visual.conv1.mean", "visual.conv1.deviation")  # what the stem measured or was given
SHORT = (Stage(64, 2, 4, 1.0), Stage(128, 2, 2, 2.0))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return draw_corpus(tmp_path_factory.mktemp("corpus"), ["screw", "wood"], ["crack", "stain"], 8, seed=0)


@pytest.fixture(scope="module")
def text_state():
    return load_backbone(CONFIG).clip.state_dict()


def run_to_the_end(run: ImageTraining) -> None:
    while (stage := run.stage()) is not None:
        run.advance(stage)


def test_a_resumed_training_equals_an_uninterrupted_one(corpus, text_state, tmp_path):
    whole = ImageTraining(CONFIG, text_state, corpus, SHORT, seed=1)
    run_to_the_end(whole)
    stopped = ImageTraining(CONFIG, text_state, corpus, SHORT, seed=1)
    for _ in range(3):
        stopped.advance(stopped.stage())
    stopped.save(tmp_path / "training.pt")
    resumed = ImageTraining(CONFIG, text_state, corpus, SHORT, seed=1)
    resumed.restore(tmp_path / "training.pt")
    run_to_the_end(resumed)
    assert resumed.step == whole.step == 4
    for name, value in whole.backbone.clip.state_dict().items():
        assert torch.equal(value, resumed.backbone.clip.state_dict()[name]), name


@pytest.mark.parametrize("composites", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_resumed_training_on_drawn_pairs_and_composites_equals_an_uninterrupted_one(
    corpus, text_state, tmp_path, composites
):
    schedule = (Stage(64, 2, 8, 1.0, "real"), Stage(128, 2, 4, 2.0, "real"))
    second = replace(corpus, facts=[Facts(kind="texture", defect=row.defect, colour="") for row in corpus.facts])
    second = replace(second, numbers=np.stack([numbers_of(row) for row in second.facts]))

    def training() -> ImageTraining:
        return ImageTraining(CONFIG, text_state, corpus, schedule, 1, second if composites else None, warm=True)

    whole, stopped, resumed = training(), training(), training()
    assert torch.equal(
        whole.backbone.clip.state_dict()["visual.conv1.patches.weight"], text_state["visual.conv1.patches.weight"]
    )
    run_to_the_end(whole)
    for _ in range(3):
        stopped.advance(stopped.stage())
    stopped.save(tmp_path / "training.pt")
    resumed.restore(tmp_path / "training.pt")
    run_to_the_end(resumed)
    for name, value in whole.backbone.clip.state_dict().items():
        assert torch.equal(value, resumed.backbone.clip.state_dict()[name]), name
        assert torch.equal(value, text_state[name]) or name.startswith("visual.")


@pytest.mark.parametrize("start", ["nothing", "embedded"])
def test_the_configuration_counts_the_steps_of_the_schedule(start):
    settings = PretrainingConfig(
        start=start, small_steps=1, large_steps=2, mixed_steps=4, real_small_steps=8, real_large_steps=16
    )
    assert settings.own_steps == sum(stage.steps for stage in recipe.schedule(settings))


def test_training_changes_only_the_image_tower_without_the_convolutions_of_its_stem(corpus, text_state):
    run = ImageTraining(CONFIG, text_state, corpus, SHORT, seed=1)
    start = {name: value.clone() for name, value in run.backbone.clip.state_dict().items()}
    for _ in range(2):  # in the first step the layer after `hidden` is zero, so no gradient reaches it
        losses = run.advance(run.stage())
    assert set(losses) == {"alignment", "state", "dense", "ranking"}
    for name, value in run.backbone.clip.state_dict().items():
        learned = name.startswith("visual.") and not name.startswith(FROZEN)
        assert torch.equal(value, start[name]) is not learned, name


def test_the_learning_rate_warms_up_in_every_stage_and_ends_each_cycle_near_zero():
    schedule = (*drawn_stages(1000, 500, 800), *real_stages(600, 400, 32))
    rates = [learning_rate(schedule, step) for step in range(3300)]
    assert max(rates) < LEARNING_RATE
    assert rates[2450] > 0.8 * PEAK["real"] and rates[2900] < rates[2950] and rates[3299] < 1e-6
    assert rates[0] < rates[50] < rates[99] and rates[1000] < rates[1050]
    assert rates[200] > rates[900] > rates[1499] and rates[1499] < 1e-6
    assert rates[1600] > 0.9 * LEARNING_RATE and rates[2299] < 1e-6


def test_exported_weights_load_strictly_and_unseen_words_share_one_vector(tmp_path):
    backbone = load_backbone(CONFIG)
    path = export(backbone, tmp_path / "kanoclip-tiny.safetensors")
    shipped = load_file(path)
    ids = shipped.pop("token_ids")
    assert ids.tolist() == used_tokens(backbone)
    assert path.stat().st_size < 10e6
    table = shipped["token_embedding.weight"].float()
    original = backbone.clip.token_embedding.weight
    assert torch.allclose(table[:-1], original[ids], atol=1e-3)
    assert torch.allclose(table[-1], original[stand_in_token(backbone)], atol=1e-3)
    expected = {
        name: value.shape for name, value in backbone.clip.state_dict().items() if "token_embedding" not in name
    }
    assert {name: value.shape for name, value in shipped.items() if "token_embedding" not in name} == expected


@pytest.mark.slow
def test_the_recipe_trains_from_scratch_and_continues_with_more_steps(tmp_path, monkeypatch):
    for name in ("LOG_EVERY", "SAVE_EVERY", "VALIDATE_EVERY"):
        monkeypatch.setattr(recipe, name, 2)
    steps = {f"{name}_steps": 2 for name in ("text", "small", "large", "mixed", "real_small", "real_large")}
    tiny = PretrainingConfig(pairs=70, real_batch=16, validation_pairs=56, **steps)
    weights = pretrain(tmp_path, tiny)
    first = weights.read_bytes()
    assert pretrain(tmp_path, tiny).read_bytes() == first
    pretrain(tmp_path, tiny.model_copy(update={"real_large_steps": 4}))
    assert pd.read_csv(tmp_path / "train.csv")["step"].tolist() == [2, 4, 6, 8, 10, 12]
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert set(results) == {"held_out_kinds", "held_out_defects", "seen"}
    assert all(0 <= value <= 1 for row in results.values() for value in row.values())


@pytest.mark.slow
def test_training_of_the_weights_in_the_package_continues_on_photographs(tmp_path, monkeypatch):
    for name in ("LOG_EVERY", "SAVE_EVERY", "VALIDATE_EVERY"):
        monkeypatch.setattr(recipe, name, 2)
    for number in range(40):
        path = tmp_path / "photographs" / "bumpy" / f"bumpy_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render("granite", None, number, 128).image).save(path)
    steps = {"text_steps": 2, "real_small_steps": 0, "real_large_steps": 2, "final_steps": 4, "final_batch": 16}
    sizes = {"pairs": 70, "composite_pairs": 16, "validation_pairs": 56, "real_batch": 16}
    tiny = PretrainingConfig(start="embedded", photographs=str(tmp_path / "photographs"), **steps, **sizes)
    pretrain(tmp_path / "run", tiny)
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    assert "held_out_composites" in written["results"]
    assert sorted(written["shares"]) == ["0.0", "0.25", "0.5", "0.75", "1.0"]
    deciding = {name: written["shares"][str(written["share_of_the_end"])][name] for name in DECIDING}
    assert written["dampings"][0] == {"factors": [1.0] * 4, "results": deciding}
    (chosen,) = [row for row in written["dampings"] if row["factors"] == written["damping"]]
    assert {name: written["results"][name] for name in DECIDING} == chosen["results"]
    assert merit(chosen["results"]) == max(merit(row["results"]) for row in written["dampings"])
    assert pd.read_csv(tmp_path / "run" / "validation.csv")["step"].tolist() == [0, 2]
    assert pd.read_csv(tmp_path / "run" / "final_validation.csv")["step"].tolist() == [0, 2, 4]
