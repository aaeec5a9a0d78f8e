"""Every registered method through one suite, on a tiny tower with random weights."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from kanoclip.backbones.streams import Streams

from kanoclip.backbones.clip import Backbone
from kanoclip.config import Strict
from kanoclip.datasets.index import load_image, read_index
from kanoclip.datasets.masks import masks_at
from kanoclip.features import FeatureCache
from kanoclip.methods import AnomalyOutput, Batch, Method, method_class, method_names
from kanoclip.methods.base import TrainingOptions
from kanoclip.scoring import score

ARRAYS = ("map", "image_score", "image_probability", "map_score")


def build(name: str, backbone: Backbone, seed: int = 0) -> tuple[Method, Strict, Streams]:
    kind = method_class(name)
    torch.manual_seed(seed)
    options = kind.Options()
    method = kind(backbone, options, seed).eval()
    return method, options, kind.streams(options, backbone.quarters, backbone.layers)


@pytest.fixture(params=method_names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_name_and_documentation(name: str) -> None:
    kind = method_class(name)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert kind.__doc__ and kind.__doc__ != Method.__doc__
    for key, field in kind.Options.model_fields.items():
        assert field.description, f"{name}.{key} says nothing about itself"


def test_shapes_ranges_and_determinism(name: str, index: Path, features: Path, backbone: Backbone) -> None:
    frame = read_index(index)
    cache = FeatureCache(features, frame["image"].tolist())
    method, _, streams = build(name, backbone)
    first = score(method, cache, frame, streams)
    again = score(build(name, backbone)[0], cache, frame, streams)
    assert first["map"].shape[0] == len(frame) and first["map"].ndim == 3
    for key in ARRAYS:
        assert first[key].dtype == np.float32
        assert np.isfinite(first[key]).all()
        assert first[key].min() >= 0 and first[key].max() <= 1
        assert np.array_equal(first[key], again[key])


def test_batch_size_does_not_change_scores(name: str, index: Path, features: Path, backbone: Backbone) -> None:
    frame = read_index(index)
    cache = FeatureCache(features, frame["image"].tolist())
    method, _, streams = build(name, backbone)
    whole, single = (score(method, cache, frame, streams, batch_size=size) for size in (16, 1))
    for key in ARRAYS:
        np.testing.assert_allclose(whole[key], single[key], atol=1e-5)


def test_cached_equals_uncached(name: str, index: Path, features: Path, backbone: Backbone) -> None:
    """From pixels to scores without the file in between; what differs is fp16."""
    frame = read_index(index)
    method, _, streams = build(name, backbone)
    cached = score(method, FeatureCache(features, frame["image"].tolist()), frame, streams)
    pixels = torch.stack([backbone.preprocess(load_image(path)) for path in frame["image_path"]])
    truth = {
        "labels": torch.tensor(frame["label"].to_numpy()),
        "masks": torch.from_numpy(np.stack(list(masks_at(frame, backbone.config.image_size)))),
    }
    batch = Batch(
        frame["image"].tolist(),
        frame["class_name"].tolist(),
        backbone.encode_images(pixels, streams),
        **(truth if method.sees_truth else {}),
    )
    with torch.no_grad():
        direct: AnomalyOutput = method(batch)
    np.testing.assert_allclose(cached["map"], direct.map_probability.numpy(), atol=2e-2)
    np.testing.assert_allclose(cached["image_score"], direct.image_score.numpy(), atol=2e-2)


def test_only_controls_see_the_truth(name: str) -> None:
    kind = method_class(name)
    assert kind.control or not kind.sees_truth


def test_class_names_are_used_by_name(name: str, index: Path, features: Path, backbone: Backbone) -> None:
    """Scores of an image depend on its own class name only, not on the other classes in the batch."""
    frame = read_index(index)
    cache = FeatureCache(features, frame["image"].tolist())
    method, _, streams = build(name, backbone)
    renamed = frame.assign(class_name=["zipper"] * 8 + frame["class_name"].tolist()[8:])
    before, after = (score(method, cache, rows, streams) for rows in (frame, renamed))
    np.testing.assert_allclose(before["image_score"][8:], after["image_score"][8:], atol=1e-6)


def test_trainable_methods_say_what_they_learn(name: str, backbone: Backbone) -> None:
    method, options, _ = build(name, backbone)
    learned = {id(parameter) for parameter in method.learned().values()}
    assert bool(learned) == method.trainable
    if method.trainable:
        grouped = [id(parameter) for group in method.parameter_groups() for parameter in group["params"]]
        assert len(grouped) == len(set(grouped))
        assert set(grouped) == learned
        assert isinstance(options, TrainingOptions)


def test_seeds_matter_exactly_for_stochastic_methods(
    name: str, index: Path, features: Path, backbone: Backbone
) -> None:
    frame = read_index(index)
    cache = FeatureCache(features, frame["image"].tolist())
    _, _, streams = build(name, backbone)
    one, two = (score(build(name, backbone, seed)[0], cache, frame, streams) for seed in (1, 2))
    same = all(np.array_equal(one[key], two[key]) for key in ARRAYS)  # some learn maps only
    assert same != method_class(name).stochastic
