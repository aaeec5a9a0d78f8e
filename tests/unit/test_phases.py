"""Compare a training with two very different phases, killed at any point, with an uninterrupted one."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from kanoclip.augmentation import ImageSet, Mosaic, Sample
from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.config import Strict
from kanoclip.datasets.index import read_index
from kanoclip.features import CachedFeatures, FeatureCache, LiveFeatures
from kanoclip.methods import Batch, Method
from kanoclip.methods.phases import Phase, Schedule
from kanoclip.training import TrainingData, TrainingState, fit
from kanoclip.types import InputError

CLS, VV = Tap("cls", 6), Tap("vv", 6)
EPOCHS = 3, 2
STEPS = 4 * EPOCHS[0] + 2 * EPOCHS[1]  # 16 images in batches of 5 and 8


class Toy(Method[Strict]):
    """A method whose first phase fits a layer to labels and whose second fits another, on top of it, to masks."""

    trainable = stochastic = True
    augment: Callable[[int, ImageSet, object], Sample] | None = None

    def __init__(self, backbone: Backbone, options: Strict, seed: int):
        super().__init__(backbone, options, seed)
        torch.manual_seed(seed)
        self.first, self.second, self.unused = nn.Linear(128, 4), nn.Linear(128, 1), nn.Linear(2, 2)
        self.dropout = nn.Dropout(0.5)  # random numbers in every step
        self.seen: list[tuple[str, Batch]] = []
        self.before_step: Callable[[], None] = lambda: None

    @classmethod
    def reads(cls, options: Strict, tower: TowerShape) -> frozenset[Tap]:
        return frozenset({CLS, VV})

    def phases(self) -> list[Phase]:
        def momentum(groups: object) -> torch.optim.Optimizer:
            return torch.optim.AdamW(groups, betas=(0.6, 0.9), weight_decay=0.1)

        first = {"name": "first", "params": list(self.first.parameters()), "lr": 1e-2}
        second = {"name": "second", "params": list(self.second.parameters()), "lr": 3e-3}
        fall = Schedule("steps", milestones=(2, 3), gamma=0.1)
        return [
            Phase("labels", self._labels, [first], EPOCHS[0], 5, augment=self.augment, reads=frozenset({CLS})),
            Phase("masks", self._masks, [second], EPOCHS[1], 8, momentum, fall),
        ]

    def _labels(self, batch: Batch) -> Mapping[str, Tensor]:
        self.seen.append(("labels", batch))
        self.before_step()
        labels, _ = batch.truth
        scores = self.first(self.dropout(batch.features[CLS])).mean(1)
        return {"labels": nn.functional.binary_cross_entropy_with_logits(scores, labels)}

    def _masks(self, batch: Batch) -> Mapping[str, Tensor]:
        self.seen.append(("masks", batch))
        self.before_step()
        _, masks = batch.truth
        share = self.second(self.dropout(batch.features[VV])).mean((1, 2))
        below = self.first(batch.features[CLS]).mean(1)  # the frozen layer of the first phase
        return {"masks": (share + below - masks.mean((1, 2))).square().mean(), "size": 0.1 * share.square().mean()}


@pytest.fixture
def data(index: Path, features: Path, backbone: Backbone) -> TrainingData:
    frame = read_index(index)
    source = CachedFeatures(FeatureCache(features, frame), backbone)
    return TrainingData(source, frame, 32, LiveFeatures(frame, backbone, workers=2))


def copies(method: Method) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in method.learned().items()}


def test_each_phase_changes_only_its_own_parameters(backbone: Backbone, data: TrainingData, tmp_path: Path) -> None:
    method = Toy(backbone, Strict(), 1)
    initial = copies(method)
    at_step: list[dict[str, Tensor]] = []
    required: list[set[str]] = []

    def note() -> None:
        at_step.append(copies(method))
        required.append({name.split(".")[0] for name, value in method.learned().items() if value.requires_grad})

    method.before_step = note
    fit(method, data, TrainingState(tmp_path / "state", "key"))
    between, end = at_step[4 * EPOCHS[0]], copies(method)
    for name in end:
        moved = [not torch.equal(a[name], b[name]) for a, b in ((initial, between), (between, end))]
        part = name.split(".")[0]
        assert moved == [part == "first", part == "second"], name
    assert required == [{"first"}] * 12 + [{"second"}] * 4
    assert all(value.requires_grad for value in method.learned().values())
    assert all(value.grad is None for value in backbone.parameters())


def test_phases_read_their_own_taps_in_their_own_batch_size(
    backbone: Backbone, data: TrainingData, tmp_path: Path
) -> None:
    method = Toy(backbone, Strict(), 1)
    log = pd.read_csv(io.StringIO(fit(method, data, TrainingState(tmp_path / "state", "key"))))
    assert [(name, len(batch.images)) for name, batch in method.seen] == [
        *[("labels", size) for size in (5, 5, 5, 1)] * 3,
        *[("masks", 8)] * 4,
    ]
    assert all(batch.features.keys() == ({CLS} if name == "labels" else {CLS, VV}) for name, batch in method.seen)
    for epoch in range(3):
        images = [image for _, batch in method.seen[4 * epoch : 4 * epoch + 4] for image in batch.images]
        assert sorted(images) == sorted(data.images)
    assert log["phase"].tolist() == ["labels"] * 12 + ["masks"] * 4
    assert log["epoch"].tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 2 + [5] * 2
    assert log["step"].tolist() == list(range(1, STEPS + 1))
    first, second = log[:12], log[12:]
    assert set(first["lr_first"]) == {1e-2} and first["lr_second"].isna().all()
    assert second["lr_second"].tolist() == pytest.approx([3e-3, 3e-3, 3e-4, 3e-5])
    assert second["loss_labels"].isna().all() and first[["loss_masks", "loss_size"]].isna().all(axis=None)
    assert (second["loss_masks"] + second["loss_size"]).tolist() == pytest.approx(second["loss_total"].tolist(), 1e-4)


def test_a_phase_uses_its_own_optimiser(backbone: Backbone, data: TrainingData, tmp_path: Path) -> None:
    """Repeat the second phase by hand: AdamW with its own betas and rates, from the end of the first phase."""
    method = Toy(backbone, Strict(), 2)
    starts: list[dict[str, Tensor]] = []
    gradients: list[Tensor] = []
    method.before_step = lambda: starts.append(copies(method))
    method.second.bias.register_post_accumulate_grad_hook(lambda value: gradients.append(value.grad.clone()))
    fit(method, data, TrainingState(tmp_path / "state", "key"))
    begin, mean, square = starts[12]["second.bias"], 0.0, 0.0
    for step, (gradient, rate) in enumerate(zip(gradients, (3e-3, 3e-3, 3e-4, 3e-5), strict=True), start=1):
        mean, square = 0.6 * mean + 0.4 * gradient, 0.9 * square + 0.1 * gradient**2
        begin = begin * (1 - rate * 0.1)
        begin = begin - rate * (mean / (1 - 0.6**step)) / ((square / (1 - 0.9**step)).sqrt() + 1e-8)
    torch.testing.assert_close(method.second.bias.detach(), begin)


@pytest.mark.parametrize("augment", [None, Mosaic(0.5)], ids=["plain", "mosaic"])
@pytest.mark.parametrize("killed_at", [[6], [12], [13], [15], [2, 7, 12, 14]])
def test_a_training_killed_at_any_step_gives_identical_parameters(
    backbone: Backbone,
    data: TrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_at: list[int],
    augment: Mosaic | None,
) -> None:
    """Kill it in the first phase, after its last epoch, in the second, several times; steps are counted from 0."""
    monkeypatch.setattr(Toy, "augment", augment)
    whole, state = Toy(backbone, Strict(), 3), tmp_path / "state"
    expected = fit(whole, data, TrainingState(tmp_path / "whole", "key"))
    for step in killed_at:
        method = Toy(backbone, Strict(), 3)
        progress = TrainingState(state, "key")

        def kill(progress: TrainingState = progress, step: int = step) -> None:
            if len(progress.rows) == step:
                raise KeyboardInterrupt

        method.before_step = kill
        with pytest.raises(KeyboardInterrupt):
            fit(method, data, progress)
    method = Toy(backbone, Strict(), 3)
    text = fit(method, data, TrainingState(state, "key"))
    assert len(method.seen) == STEPS - max(step for step in (0, 4, 8, 12, 14) if step <= killed_at[-1])
    assert all(torch.equal(value, whole.learned()[name]) for name, value in method.learned().items())
    found, wanted = (pd.read_csv(io.StringIO(part)).drop(columns="seconds") for part in (text, expected))
    pd.testing.assert_frame_equal(found, wanted)


def test_a_training_killed_between_two_phases_is_resumed(
    backbone: Backbone, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill it just before and just after the end of the first phase is recorded."""
    whole = Toy(backbone, Strict(), 3)
    fit(whole, data, TrainingState(tmp_path / "whole", "key"))
    leave = TrainingState.leave_phase

    def before(self: TrainingState, method: Method) -> None:
        raise KeyboardInterrupt

    def after(self: TrainingState, method: Method) -> None:
        leave(self, method)
        raise KeyboardInterrupt

    for leaving in (before, after, after):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(TrainingState, "leave_phase", leaving)
            fit(Toy(backbone, Strict(), 3), data, TrainingState(tmp_path / "state", "key"))
    method = Toy(backbone, Strict(), 3)
    fit(method, data, TrainingState(tmp_path / "state", "key"))
    assert method.seen == []  # killed after all steps were done
    assert all(torch.equal(value, whole.learned()[name]) for name, value in method.learned().items())


def test_a_phase_without_taps_does_not_run_the_towers(backbone: Backbone, data: TrainingData, tmp_path: Path) -> None:
    """Prompts that learn from descriptions alone need no features."""
    method, seen = Toy(backbone, Strict(), 1), []

    def losses(batch: Batch) -> dict[str, Tensor]:
        seen.append(batch)
        labels, _ = batch.truth
        return {"size": method.first.weight.square().mean() + 0 * labels.sum()}

    group = {"name": "first", "params": [method.first.weight], "lr": 1e-2}
    method.phases = lambda: [Phase("words", losses, [group], 1, 8, reads=frozenset())]
    fit(method, data, TrainingState(tmp_path / "state", "key"))
    assert [batch.features for batch in seen] == [{}, {}]


def test_learned_parameters_do_not_depend_on_requires_grad(backbone: Backbone) -> None:
    method = Toy(backbone, Strict(), 1)
    names = set(method.learned())
    method.requires_grad_(False)
    assert (
        set(method.learned())
        == names
        == {f"{part}.{kind}" for part in ("first", "second", "unused") for kind in ("weight", "bias")}
    )


def test_an_augmented_phase_gets_changed_images_and_the_next_phase_cached_features(
    backbone: Backbone, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Toy(backbone, Strict(), 1)
    fit(plain, data, TrainingState(tmp_path / "plain", "key"))
    monkeypatch.setattr(Toy, "augment", Mosaic(1.0))
    changed = Toy(backbone, Strict(), 1)
    fit(changed, data, TrainingState(tmp_path / "changed", "key"))
    for (name, one), (_, other) in zip(plain.seen, changed.seen, strict=True):
        assert one.images == other.images
        same = [torch.equal(a, b) for a, b in zip(one.features[CLS], other.features[CLS], strict=True)]
        if name == "labels":
            assert not any(same)
            assert torch.equal(other.labels, other.masks.flatten(1).any(1).long())
        else:
            assert all(same) and torch.equal(one.masks, other.masks)
    assert any(
        not torch.equal(one.masks, other.masks) for (_, one), (_, other) in zip(plain.seen, changed.seen, strict=True)
    )


def test_an_augmentation_that_changes_nothing_gives_the_cached_features(
    backbone: Backbone, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Toy(backbone, Strict(), 1)
    fit(plain, data, TrainingState(tmp_path / "plain", "key"))
    monkeypatch.setattr(Toy, "augment", Mosaic(0.0))
    live = Toy(backbone, Strict(), 1)
    fit(live, data, TrainingState(tmp_path / "live", "key"))
    for (_, one), (_, other) in zip(plain.seen, live.seen, strict=True):
        assert torch.equal(one.masks, other.masks) and torch.equal(one.labels, other.labels)
        # the cache is fp16 and has other batches
        torch.testing.assert_close(one.features[CLS], other.features[CLS], atol=2e-3, rtol=2e-3)


def test_an_augmentation_without_images_is_refused(
    backbone: Backbone, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Toy, "augment", Mosaic(0.5))
    data.live = None
    with pytest.raises(InputError, match="^this training changes its images, so it needs live features; .*$") as caught:
        fit(Toy(backbone, Strict(), 1), data, TrainingState(tmp_path / "state", "key"))
    assert "\n" not in str(caught.value)
