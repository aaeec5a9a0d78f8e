import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from kanoclip.backbones.clip import load_backbone
from kanoclip.config import BackboneConfig, PretrainingConfig
from kanoclip.datasets.synthetic import KINDS, TRAINING_KINDS, Facts
from kanoclip.pretraining.codes import NOTHING, UNKNOWN
from kanoclip.pretraining.corpus import draw_corpus, numbers_of
from kanoclip.pretraining.final import NO_CLASS, WEIGHTS, FinalTraining
from kanoclip.pretraining.recipe import pretrain
from kanoclip.types import InputError

CONFIG = BackboneConfig(model="kanoclip-tiny", weights="random:0", image_size=128)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_corpus(tmp_path_factory.mktemp("corpus"), ["screw", "wood"], ["crack", "stain"], 16, seed=0)


@pytest.fixture(scope="module")
def composites(drawn):
    facts = [Facts(kind="texture", defect=row.defect, colour="") for row in drawn.facts]
    return replace(drawn, facts=facts, numbers=np.stack([numbers_of(row) for row in facts]))


@pytest.fixture(scope="module")
def start():
    return load_backbone(CONFIG).clip.state_dict()


def test_a_resumed_training_equals_an_uninterrupted_one(drawn, composites, start, tmp_path):

    def training() -> FinalTraining:
        return FinalTraining(CONFIG, start, drawn, composites, steps=4, batch=8, seed=1)

    whole, stopped, resumed = training(), training(), training()
    for _ in range(4):
        losses = whole.advance(whole.schedule[0])
    assert set(losses) == set(WEIGHTS) and np.isfinite(losses["local"])
    for _ in range(3):
        stopped.advance(stopped.schedule[0])
    stopped.save(tmp_path / "final.pt")
    resumed.restore(tmp_path / "final.pt")
    resumed.advance(resumed.schedule[0])
    assert resumed.stage() is None
    for name, value in whole.at_full_size().clip.state_dict().items():
        assert torch.equal(value, resumed.at_full_size().clip.state_dict()[name]), name
        assert name.startswith("visual.") or torch.equal(value, start[name]), name
    average, last = whole.average["transformer.resblocks.0.mlp.c_fc.weight"], whole.backbone.blocks[0].mlp.c_fc.weight
    assert not torch.equal(average, last)


def test_photographs_and_held_out_kinds_belong_to_no_class(drawn, composites, start):
    run = FinalTraining(CONFIG, start, drawn, composites, steps=1, batch=8, seed=1)
    names = list(KINDS)
    kinds = torch.tensor([*range(len(names)), NOTHING, UNKNOWN])
    expected = [TRAINING_KINDS.index(name) if name in TRAINING_KINDS else NO_CLASS for name in names]
    assert run.classes_of(kinds).tolist() == [*expected, NO_CLASS, NO_CLASS]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"final_steps": 2}, "needs photographs"), ({"start": "embedded"}, "trains nothing without steps")],
)
def test_invalid_numbers_of_steps_are_refused(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        pretrain(tmp_path, PretrainingConfig(**settings))


def test_missing_weights_of_the_stem_are_reported_before_anything_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(InputError, match=r"kanoclip\[pretraining\]"):
        pretrain(tmp_path / "run", PretrainingConfig())
    assert not (tmp_path / "run" / "data").exists()
