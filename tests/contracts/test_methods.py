"""Run one suite on every registered method, with a tiny tower with random weights."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Features, Tap
from kanoclip.config import BackboneConfig
from kanoclip.datasets.images import load_square
from kanoclip.datasets.index import read_index
from kanoclip.datasets.masks import masks_at
from kanoclip.features import CachedFeatures, FeatureCache, LiveFeatures
from kanoclip.methods import Batch, Method, method_class, method_names
from kanoclip.methods.phases import Phase, TrainingOptions
from kanoclip.report.notes import MARKS
from kanoclip.scoring import score

SIZE = 32  # of the images


class Recorder(dict[Tap, Tensor]):
    """Features that record which taps were read."""

    def __init__(self, features: Features):
        super().__init__(features)
        self.read: set[Tap] = set()

    def __getitem__(self, tap: Tap) -> Tensor:
        self.read.add(tap)
        return super().__getitem__(tap)


def build(name: str, backbone: Backbone, seed: int = 0, **options: Any) -> Method[Any]:
    kind = method_class(name)
    torch.manual_seed(seed)
    method = kind(backbone, kind.Options(**options), seed).eval()
    method.learn_knowledge({"nut": ["a cracked nut"], "bolt": ["a bent bolt", "a bolt with rust"]})
    return method


def reads(method: Method[Any]) -> frozenset[Tap]:
    return method.reads(method.options, method.backbone.shape)


def trains_on(method: Method[Any]) -> frozenset[Tap]:
    return method.trains_on(method.options, method.backbone.shape)


def read_by(phase: Phase, method: Method[Any]) -> frozenset[Tap]:
    return trains_on(method) if phase.reads is None else phase.reads


def recipes(names: Iterable[str]) -> list[Any]:
    """Return (name, options) of every recipe: defaults, as published, as published for an auxiliary dataset."""
    found = []
    for name in names:
        kind = method_class(name)
        found.append(pytest.param(name, {}, id=name))
        if kind.published:
            found.append(pytest.param(name, {**kind.published}, id=f"{name}-published"))
        for auxiliary, changed in kind.published_on.items():
            found.append(pytest.param(name, {**kind.published, **changed}, id=f"{name}-published-{auxiliary}"))
    return found


ALL = recipes(method_names())
TRAINABLE = recipes(name for name in method_names() if method_class(name).trainable)


@pytest.fixture(params=method_names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def frame(index: Path) -> pd.DataFrame:
    return read_index(index)


@pytest.fixture(scope="module")
def cache(features: Path, frame: pd.DataFrame, backbone: Backbone) -> CachedFeatures:
    return CachedFeatures(FeatureCache(features, frame), backbone)


@pytest.fixture(scope="module")
def pixels(frame: pd.DataFrame, backbone: Backbone) -> Tensor:
    """Return (N, 3, 32, 32) normalised pixels."""
    return backbone.normalise(np.stack([load_square(path, SIZE) for path in frame["image_path"]]))


@pytest.fixture(scope="module")
def truth(frame: pd.DataFrame) -> dict[str, Tensor]:
    masks = np.stack(list(masks_at(frame, SIZE)))
    return {"labels": torch.tensor(frame["label"].to_numpy()), "masks": torch.from_numpy(masks)}


def batch_of(frame: pd.DataFrame, features: Features, **truth: Tensor) -> Batch:
    return Batch(frame["image"].tolist(), frame["class_name"].tolist(), features, **truth)


def assert_close(found: tuple[NDArray, NDArray], expected: tuple[NDArray, NDArray], atol: float) -> None:
    """Assert that two outputs have close maps and close image scores."""
    for values, others in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, others, atol=atol, rtol=0)


def test_every_method_and_option_has_a_description(name: str) -> None:
    kind = method_class(name)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert kind.__doc__ and kind.__doc__ != Method.__doc__
    for key, field in kind.Options.model_fields.items():
        assert field.description, f"{name}.{key} has no description"


def test_published_backbone_is_a_valid_configuration(name: str) -> None:
    BackboneConfig(**method_class(name).published_backbone)


@pytest.mark.parametrize(("name", "options"), ALL)
def test_a_method_whose_scores_need_a_whole_class_is_marked_transductive(
    name: str, options: dict[str, Any], backbone: Backbone
) -> None:
    method = build(name, backbone, **options)
    marks = method.marks(method.options)
    assert marks <= set(MARKS)
    maps, scores = np.linspace(0, 1, 32, dtype=np.float32).reshape(2, 4, 4), np.array([0.2, 0.6], np.float32)
    assert (method.after_class(maps, scores) is not None) <= ("transductive" in marks)


@pytest.mark.parametrize(("name", "options"), ALL)
def test_reads_names_only_taps_that_the_tower_has(name: str, options: dict[str, Any], backbone: Backbone) -> None:
    taps = reads(build(name, backbone, **options))
    assert isinstance(taps, frozenset)
    backbone.check(taps)
    assert {Tap.parse(str(tap)) for tap in taps} == taps


@pytest.mark.parametrize(("name", "options"), ALL)
def test_scoring_reads_exactly_the_taps_named_by_reads(
    name: str,
    options: dict[str, Any],
    frame: pd.DataFrame,
    backbone: Backbone,
    pixels: Tensor,
    truth: dict[str, Tensor],
) -> None:
    method = build(name, backbone, **options)
    features = Recorder(backbone.encode_images(pixels, reads(method)))
    with torch.no_grad():
        method(batch_of(frame, features, **(truth if method.sees_truth else {})))
    assert features.read == reads(method)


def test_outputs_have_the_right_shapes_and_ranges_and_are_deterministic(
    name: str, frame: pd.DataFrame, cache: CachedFeatures, backbone: Backbone
) -> None:
    maps, scores = score(build(name, backbone), cache, frame)
    assert maps.ndim == 3 and len(maps) == len(frame) and scores.shape == (len(frame),)
    for values in (maps, scores):
        assert values.dtype == np.float32
        assert values.min() >= 0 and values.max() <= 1  # and no NaN
    assert_close(score(build(name, backbone), cache, frame), (maps, scores), atol=0)


def test_scores_of_an_image_do_not_depend_on_the_others(
    name: str, frame: pd.DataFrame, cache: CachedFeatures, backbone: Backbone
) -> None:
    """Score images one by one, and together in another order."""
    method = build(name, backbone)
    together = score(method, cache, frame, batch_size=len(frame))
    assert_close(score(method, cache, frame, batch_size=1), together, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(frame))
    maps, scores = score(method, cache, frame.iloc[order], batch_size=5)
    assert_close((maps[order.argsort()], scores[order.argsort()]), together, atol=1e-5)


def test_scores_of_an_image_do_not_depend_on_other_class_names(
    name: str, frame: pd.DataFrame, cache: CachedFeatures, backbone: Backbone
) -> None:
    method = build(name, backbone)
    renamed = frame.assign(class_name=["zipper"] * 8 + frame["class_name"].tolist()[8:])
    before, after = (score(method, cache, rows) for rows in (frame, renamed))
    assert_close((after[0][8:], after[1][8:]), (before[0][8:], before[1][8:]), atol=1e-6)


def test_live_features_give_the_scores_of_cached_ones(
    name: str, frame: pd.DataFrame, cache: CachedFeatures, backbone: Backbone, pixels: Tensor, truth: dict[str, Tensor]
) -> None:
    """Cached features give identical scores; features from the tower differ by the rounding to fp16."""
    method = build(name, backbone)
    cached = score(method, cache, frame, batch_size=5)  # in the batches in which they were encoded
    assert_close(score(method, LiveFeatures(frame, backbone), frame, batch_size=5), cached, atol=0)
    features = backbone.encode_images(pixels, reads(method))
    with torch.no_grad():
        direct = method(batch_of(frame, features, **(truth if method.sees_truth else {})))
    assert_close(cached, (direct.map.numpy(), direct.image_score.numpy()), atol=2e-2)


def test_only_controls_see_the_ground_truth(name: str) -> None:
    kind = method_class(name)
    assert kind.control or not kind.sees_truth


def test_the_seed_changes_exactly_the_stochastic_methods(
    name: str, frame: pd.DataFrame, cache: CachedFeatures, backbone: Backbone
) -> None:
    one, two = (score(build(name, backbone, seed), cache, frame) for seed in (1, 2))
    # both, because some methods learn only maps
    same = all(np.array_equal(of_one, of_two) for of_one, of_two in zip(one, two, strict=True))
    assert same != method_class(name).stochastic


def test_exactly_the_trainable_methods_have_learned_parameters(name: str, backbone: Backbone) -> None:
    method = build(name, backbone)
    assert bool(method.learned()) == bool(method.phases()) == method.trainable
    assert isinstance(method.options, TrainingOptions) == method.trainable


def test_learned_ignores_requires_grad_and_excludes_the_backbone(name: str, backbone: Backbone) -> None:
    method = build(name, backbone)
    before = method.learned()
    method.requires_grad_(False)
    assert method.learned() == before
    assert not any(parameter is value for value in before.values() for parameter in backbone.parameters())


@pytest.mark.parametrize(("name", "options"), TRAINABLE)
def test_phases_optimise_exactly_the_learned_parameters(name: str, options: dict[str, Any], backbone: Backbone) -> None:
    method = build(name, backbone, **options)
    phases = method.phases()
    assert len({phase.name for phase in phases}) == len(phases)
    for phase in phases:
        assert phase.epochs > 0 and phase.batch_size > 0
        assert len({group["name"] for group in phase.groups}) == len(phase.groups)
        assert all(group["params"] and group["lr"] > 0 for group in phase.groups)
        optimised = [id(parameter) for group in phase.groups for parameter in group["params"]]
        assert len(optimised) == len(set(optimised)), "an optimiser holds a parameter twice"
    groups = [group for phase in phases for group in phase.groups]
    covered = {id(parameter) for group in groups for parameter in group["params"]}
    assert covered == {id(parameter) for parameter in method.learned().values()}


@pytest.mark.parametrize(("name", "options"), TRAINABLE)
def test_training_reads_the_declared_taps_and_every_group_gets_a_gradient(
    name: str,
    options: dict[str, Any],
    frame: pd.DataFrame,
    backbone: Backbone,
    pixels: Tensor,
    truth: dict[str, Tensor],
) -> None:
    method = build(name, backbone, **options)
    of_unchanged_images: set[Tap] = set()
    for phase in method.phases():
        features = Recorder(backbone.encode_images(pixels, read_by(phase, method)))
        losses = phase.losses(batch_of(frame, features, **truth))
        assert features.read == read_by(phase, method)
        of_unchanged_images |= set() if phase.augment else features.read
        assert all(loss.shape == () and torch.isfinite(loss) for loss in losses.values())
        sum(losses.values()).backward()
        for group in phase.groups:
            assert any(parameter.grad is not None and parameter.grad.any() for parameter in group["params"])
    assert trains_on(method) == of_unchanged_images
    assert all(parameter.grad is None for parameter in backbone.parameters())
