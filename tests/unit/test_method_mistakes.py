"""Write methods with the mistakes of a first attempt: each is one line that names the method, and nothing is scored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.config import Strict
from kanoclip.datasets.index import read_index
from kanoclip.features import LiveFeatures
from kanoclip.methods import AnomalyOutput, Batch, Method
from kanoclip.methods.phases import Phase
from kanoclip.prompts.ensemble import PromptEnsemble
from kanoclip.scoring import Scorer, ScoresInProgress, run_pass, score
from kanoclip.training import TrainingData, TrainingState, fit
from kanoclip.types import InputError


class Mine(Method[Strict]):
    """A method that learns a layer on the patch tokens of the last block."""

    trainable = True

    def __init__(self, backbone: Backbone, options: Strict, seed: int):
        super().__init__(backbone, options, seed)
        self.layer = nn.Linear(backbone.width, 1)

    @classmethod
    def reads(cls, options: Strict, tower: TowerShape) -> frozenset[Tap]:
        return frozenset({Tap("tokens", tower.layers)})

    def maps(self, batch: Batch) -> Tensor:
        """Return maps (B, h, w) in 0..1."""
        tokens = batch.features[Tap("tokens", self.backbone.layers)][:, 1:]
        return self.layer(tokens).sigmoid().squeeze(-1).unflatten(1, self.backbone.grid)

    def forward(self, batch: Batch) -> AnomalyOutput:
        maps = self.maps(batch)
        return AnomalyOutput(maps, maps.amax((1, 2)))

    def losses(self, batch: Batch) -> Any:
        return {"map": self.maps(batch).mean()}

    def phases(self) -> Any:
        groups = [{"name": "layer", "params": list(self.layer.parameters()), "lr": 1e-3}]
        return [Phase("train", self.losses, groups, epochs=1, batch_size=8)]


@pytest.fixture
def frame(index: Path) -> pd.DataFrame:
    return read_index(index)


def changed(name: str, function: Callable[..., Any]) -> type[Mine]:
    return type("Mine", (Mine,), {name: function})


def test_a_trainable_method_depends_on_the_seed() -> None:
    assert Mine.stochastic and not Method.stochastic


OUTPUTS: list[tuple[Callable[[AnomalyOutput], Any], str]] = [
    (lambda out: (out.map, out.image_score), "expected an AnomalyOutput from forward, found a tuple"),
    (
        lambda out: AnomalyOutput(out.map[:1], out.image_score),
        r"expected map of shape \(8, h, w\) .* found a tensor of shape \(1, 4, 4\)",
    ),
    (lambda out: AnomalyOutput(out.map.flatten(1), out.image_score), r"found a tensor of shape \(8, 16\)"),
    (lambda out: AnomalyOutput(out.map[:, None], out.image_score), r"found a tensor of shape \(8, 1, 4, 4\)"),
    (
        lambda out: AnomalyOutput(out.map, out.image_score[:1]),
        r"expected image_score of shape \(8,\) .* found a tensor of shape \(1,\)",
    ),
    (lambda out: AnomalyOutput(out.map, out.image_score[:, None]), r"found a tensor of shape \(8, 1\)"),
    (lambda out: AnomalyOutput(out.map, out.image_score.mean()), r"found a tensor of shape \(\)"),
    (lambda out: AnomalyOutput(out.map, 0.5), "found a float"),  # type: ignore[arg-type]
    (lambda out: AnomalyOutput(out.map.logit(), out.image_score), r"its map is not in 0\.\.1, found .*probabilities"),
]


@pytest.mark.parametrize(("mistake", "message"), OUTPUTS)
def test_wrong_outputs_are_refused_and_other_rows_continue(
    frame: pd.DataFrame,
    backbone: Backbone,
    tmp_path: Path,
    mistake: Callable[[AnomalyOutput], Any],
    message: str,
) -> None:
    source = LiveFeatures(frame, backbone)
    wrong = changed("forward", lambda self, batch: mistake(Mine.forward(self, batch)))(backbone, Strict(), 0)
    scorers = [
        Scorer(method, ScoresInProgress(tmp_path / str(number), frame))
        for number, method in enumerate((wrong, Mine(backbone, Strict(), 0)))
    ]
    run_pass(scorers, source, frame, batch_size=8)
    with pytest.raises(InputError, match=message):
        raise scorers[0].failed or AssertionError("not refused")
    assert scorers[1].failed is None and np.load(tmp_path / "1" / "checksum.npy").all()
    assert not np.load(tmp_path / "0" / "checksum.npy").any()
    with pytest.raises(InputError, match=message):
        score(wrong, source, frame, batch_size=8)


def test_a_tap_that_is_not_declared_is_named(frame: pd.DataFrame, backbone: Backbone) -> None:
    def forward(self: Mine, batch: Batch) -> AnomalyOutput:
        return AnomalyOutput(batch.features[Tap("vv", 6)], torch.zeros(8))

    with pytest.raises(
        InputError, match=r"method Mine: it reads the tap vv/6, which its `reads` does not name; named: "
    ):
        score(changed("forward", forward)(backbone, Strict(), 0), LiveFeatures(frame, backbone), frame, batch_size=8)


PHASES: list[tuple[Callable[[Mine], Any], str]] = [
    (lambda self: (), "`phases` must return a list of Phase, found none"),
    (lambda self: Mine.phases(self)[0], "`phases` must return a list of Phase, found a Phase"),
    (lambda self: [Phase("train", self.losses, [{"params": [], "lr": 1.0}], 1, 8)], "phase train .* without name"),
]
LOSSES: list[tuple[Callable[[Mine, Batch], Any], str]] = [
    (lambda self, batch: {}, "losses of phase train: expected tensors by name, found a dict"),
    (lambda self, batch: self.maps(batch).mean(), r"expected tensors by name, found a tensor of shape \(\)"),
    (lambda self, batch: {"map": 1.0}, "expected a tensor without axes for map, found a float"),
    (lambda self, batch: {"map": self.maps(batch)}, r"for map, found a tensor of shape \(8, 4, 4\); take its mean"),
]


@pytest.mark.parametrize(
    ("name", "mistake", "message"),
    [*(("phases", *one) for one in PHASES), *(("losses", *one) for one in LOSSES)],
)
def test_wrong_phases_and_losses_are_refused(
    frame: pd.DataFrame, backbone: Backbone, tmp_path: Path, name: str, mistake: Callable[..., Any], message: str
) -> None:
    data = TrainingData(LiveFeatures(frame, backbone), frame, 32)
    fit(Mine(backbone, Strict(), 0), data, TrainingState(tmp_path / "good.pt", "good"))
    with pytest.raises(InputError, match=message):
        fit(changed(name, mistake)(backbone, Strict(), 0), data, TrainingState(tmp_path / "wrong.pt", "wrong"))


def test_an_unknown_prompt_ensemble_is_named(backbone: Backbone) -> None:
    with pytest.raises(InputError, match="unknown prompt ensemble 'clipp'; did you mean 'clip'"):
        PromptEnsemble(backbone, "clipp")(["nut"])
