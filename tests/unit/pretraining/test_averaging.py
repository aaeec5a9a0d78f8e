import pytest
import torch
from torch import nn

from kanoclip.pretraining.averaging import DECIDING, MEASURES, between, choose_average, merit


def results(value: float) -> dict[str, dict[str, float]]:
    return {name: dict.fromkeys(MEASURES, value) for name in DECIDING} | {"seen": dict.fromkeys(MEASURES, 1.0)}


def test_the_ends_of_the_line_are_the_given_weights():
    start, end = {"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([3.0, -2.0])}
    assert torch.equal(between(start, end, 0.0)["a"], start["a"])
    assert torch.equal(between(start, end, 1.0)["a"], end["a"])
    assert between(start, end, 0.25)["a"].tolist() == [1.5, 1.0]


def test_only_held_out_sets_decide_and_missing_ones_are_ignored():
    assert merit(results(0.6)) == pytest.approx(0.6)
    assert merit({"held_out_kinds": dict.fromkeys(MEASURES, 0.7)}) == pytest.approx(0.7)


@pytest.mark.parametrize(("target", "expected"), [(0.4, 0.5), (-3.0, 0.0), (9.0, 1.0)])
def test_the_best_point_on_the_line_is_chosen(target, expected):
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 1.0)
    start = {"weight": torch.zeros(1, 1)}
    found = choose_average(module, start, lambda: results(1 - abs(module.weight.item() - target) / 10))
    assert module.weight.item() == pytest.approx(expected)
    assert sorted(found) == [0.0, 0.25, 0.5, 0.75, 1.0]
