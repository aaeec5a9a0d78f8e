import sys

import pytest
import torch
import torch.nn.functional as F

from kanoclip.pretraining.teacher import LEVELS, Lessons, load_teacher, teacher_features
from kanoclip.types import InputError


@pytest.fixture(scope="module")
def network():
    return load_teacher()


def images(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255


def test_features_equal_those_of_the_package(network):
    seen = {}
    hooks = [
        network._blocks[level.after].register_forward_hook(
            lambda module, given, made, after=level.after: seen.update({after: made})
        )
        for level in LEVELS
    ]
    network.extract_features((images(2) - 127) / 128)
    for hook in hooks:
        hook.remove()
    fine, middle, coarse = teacher_features(network, images(2))
    assert [tuple(part.shape) for part in (fine, middle, coarse)] == [(2, 64, level.channels) for level in LEVELS]
    first, second, third = (seen[level.after] for level in LEVELS)
    cells = first[:, :, 2:4, 4:6].flatten(1)  # the patch in row 1, column 2
    assert torch.allclose(fine[:, 10], cells, atol=1e-4)
    assert torch.allclose(middle[:, 10], second[:, :, 1, 2], atol=1e-4)
    assert torch.allclose(coarse.mean(1), F.interpolate(third, (8, 8), mode="bilinear").mean((2, 3)), atol=1e-3)


def test_measured_features_have_mean_0_and_deviation_1(network):
    lessons, features = Lessons(8), teacher_features(network, images(6))
    lessons.measure(features)
    tokens = lessons.normalised(features)
    assert torch.allclose(tokens.mean((0, 1)), torch.zeros(tokens.shape[2]), atol=1e-4)
    assert (tokens.std((0, 1)) < 1.001).all() and tokens.std((0, 1)).median() > 0.98


def test_the_distance_is_the_weighted_sum_of_errors_per_level():
    lessons = Lessons(8)
    tokens = [torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(level)) for level in range(len(LEVELS))]
    predicted = torch.cat([head(seen) for head, seen in zip(lessons.heads, tokens, strict=True)], dim=2)
    assert lessons.distance(tokens, predicted).item() == pytest.approx(0, abs=1e-9)
    off = predicted + 2  # every squared error is 4
    assert lessons.distance(tokens, off).item() == pytest.approx(4 * sum(level.weight for level in LEVELS), rel=1e-5)


def test_the_error_names_a_missing_package_and_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(InputError, match=r"kanoclip\[teacher\]"):
        load_teacher()
