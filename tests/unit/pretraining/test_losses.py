import numpy as np
import pytest
import torch

from kanoclip.pretraining.losses import (
    FULL_COVER,
    POSITIVE_WEIGHT,
    TEMPERATURE,
    alignment,
    dense_state,
    image_state,
    ranking,
    state_logits,
)


def test_alignment_is_the_sum_of_three_mean_logistic_losses():
    similarity = torch.tensor([[0.9, -0.2, 0.4], [0.1, 0.3, -0.5]])
    true = torch.tensor([[True, False, False], [False, False, True]])
    known = torch.tensor([[True, True, True], [True, False, True]])
    flipped = torch.tensor([[False, False, True], [False, False, False]])
    z = similarity.numpy() * 10 - 2
    positive = np.mean([np.log1p(np.exp(-z[0, 0])), np.log1p(np.exp(-z[1, 2]))])
    negative = np.mean([np.log1p(np.exp(z[0, 1])), np.log1p(np.exp(z[1, 0]))])
    expected = positive + negative + np.log1p(np.exp(z[0, 2]))
    found = alignment(similarity, true, known, flipped, torch.tensor(10.0), torch.tensor(-2.0))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_state_logits_are_the_log_odds_of_a_softmax_over_two_cosines():
    tokens = torch.nn.functional.normalize(torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    states = torch.nn.functional.normalize(torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(1)), dim=-1)
    probability = ((tokens @ states.transpose(1, 2)) / TEMPERATURE).softmax(-1)[..., 1]
    assert torch.allclose(state_logits(tokens, states).sigmoid(), probability, atol=1e-5)


def test_image_state_leaves_out_unusable_images():
    logits, labels = torch.tensor([2.0, -1.0, 50.0]), torch.tensor([1.0, 0.0, 0.0])
    found = image_state(logits, labels, torch.tensor([True, True, False]))
    assert found.item() == pytest.approx((np.log1p(np.exp(-2)) + np.log1p(np.exp(-1))) / 2, rel=1e-5)


def test_dense_state_weights_a_patch_by_its_share_of_anomalous_pixels():
    masks = torch.zeros(1, 8, 8)
    masks[0, 0, :2] = 1  # 2 of 16 pixels of the first of four patches
    logits = torch.tensor([[1.0, -2.0, -2.0, -2.0]])
    target = np.array([2 / 16 / FULL_COVER, 0, 0, 0])
    p = 1 / (1 + np.exp(-logits.numpy()[0]))
    entropy = -(POSITIVE_WEIGHT * target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    overlap = 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
    assert dense_state(logits, masks).item() == pytest.approx(entropy + overlap, rel=1e-5)


def test_ranking_is_the_mean_softplus_over_pairs_with_a_visible_defect():
    logits = torch.tensor([0.5, 2.0, 1.0, -1.0, 0.3, 0.3])
    anomalous = torch.tensor([False, True, False, True, False, False])
    expected = np.mean([np.log1p(np.exp(0.5 - 2.0)), np.log1p(np.exp(1.0 + 1.0))])
    np.testing.assert_allclose(ranking(logits, anomalous).item(), expected, rtol=1e-6)
