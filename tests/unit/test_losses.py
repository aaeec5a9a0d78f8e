import math

import pytest
import torch

from kanoclip.losses import cross_entropy, dice, distance, focal, knowledge_hinge


def test_focal_equals_a_value_by_hand() -> None:
    probability = torch.tensor([[[0.9, 0.2]]])
    target = torch.tensor([[[1.0, 0.0]]])
    expected = (-(0.1**2) * math.log(0.9) - 0.2**2 * math.log(0.8)) / 2
    assert focal(probability, target).item() == pytest.approx(expected, rel=1e-5)


def test_focal_without_focus_is_cross_entropy() -> None:
    probability, target = torch.rand(2, 5, 5), (torch.rand(2, 5, 5) > 0.5).float()
    expected = torch.nn.functional.binary_cross_entropy(probability, target)
    assert focal(probability, target, gamma=0).item() == pytest.approx(expected.item(), rel=1e-4)


def test_smoothed_focal_equals_a_value_by_hand() -> None:
    """Labels 0.9 and 0.1 instead of 1 and 0, and 0.1 added inside the logarithm."""
    true = 0.9 * 0.7 + 0.1 * 0.3 + 0.1
    found = focal(torch.tensor([[[0.7, 0.3]]]), torch.tensor([[[1.0, 0.0]]]), smoothing=0.1)
    assert found.item() == pytest.approx(-((1 - true) ** 2) * math.log(true), rel=1e-5)


def test_focal_has_a_large_gradient_at_a_confident_mistake() -> None:
    """At a missed pixel with p = 1e-9, the derivative of -(1 - p)^2 log p by p is about -1 / p and must not vanish."""
    probability = torch.tensor([[[1e-9]]], requires_grad=True)
    focal(probability, torch.ones(1, 1, 1)).backward()
    assert probability.grad.item() == pytest.approx(-1e9, rel=1e-3)


def test_focal_and_its_gradient_are_finite_at_0_and_1() -> None:
    probability = torch.tensor([[[0.0, 1.0]]], requires_grad=True)
    loss = focal(probability, torch.tensor([[[1.0, 0.0]]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(probability.grad).all()


def test_dice_equals_a_value_by_hand() -> None:
    probability = torch.tensor([[[1.0, 0.5], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    target = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    first = 1 - (2 * 1 + 1) / (1.5 + 2 + 1)
    assert dice(probability, target).item() == pytest.approx((first + 0) / 2)


def test_cross_entropy_equals_a_value_by_hand() -> None:
    probabilities, labels = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5]]), torch.tensor([0, 1, 1])
    expected = -(math.log(0.9) + math.log(0.7) + math.log(0.5)) / 3
    assert cross_entropy(probabilities, labels).item() == pytest.approx(expected)


@pytest.mark.parametrize("label", [0, 1])
def test_cross_entropy_of_saturated_logits_keeps_its_gradient(label: int) -> None:
    """At logit 20, p is 1 and 1 - p is 0 in float32; the gradient of a mistake must still be the true one."""
    logits = torch.tensor([[20.0, 0.0], [0.0, 20.0]], requires_grad=True)
    labels = torch.tensor([label, label])
    loss = cross_entropy(logits.softmax(-1), labels)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, labels))
    (found,) = torch.autograd.grad(loss, logits)
    (expected,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), logits)
    torch.testing.assert_close(found, expected)


def test_cross_entropy_and_its_gradient_are_finite_at_0_and_1() -> None:
    probabilities = torch.tensor([[0.0, 1.0], [1.0, 0.0]], requires_grad=True)
    loss = cross_entropy(probabilities, torch.tensor([0, 1]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(probabilities.grad).all()


def test_knowledge_hinge_equals_values_by_hand() -> None:
    k, n, a = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[-1.0, 0.0]])
    assert knowledge_hinge(k, n, a).item() == pytest.approx(2 - math.sqrt(2))
    assert knowledge_hinge(k, a, n).item() == 0
    assert knowledge_hinge(k, a, n, margin=1).item() == pytest.approx(math.sqrt(2) - 2 + 1)
    both = knowledge_hinge(k.repeat(2, 1), torch.cat([n, a]), torch.cat([a, n]))
    torch.testing.assert_close(both, torch.tensor([2 - math.sqrt(2), 0]))


def test_distance_has_a_gradient_at_zero() -> None:
    here, there = torch.ones(2, 3, requires_grad=True), torch.tensor([[1.0, 1, 1], [1, 5, 4]])
    found = distance(here, there)
    torch.testing.assert_close(found, torch.tensor([0.0, 5.0]), atol=1e-5, rtol=0)
    found.sum().backward()
    assert torch.isfinite(here.grad).all()
