import math

import pytest
import torch
import torch.nn.functional as F

from kanoclip.methods.layerwise import LABEL_SMOOTHING, at_pixels, map_losses, mean_map


def test_upsampled_log_odds_give_the_softmax_of_upsampled_logits() -> None:
    logits = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * 5  # normal, abnormal
    full = F.interpolate(logits, (20, 20), mode="bilinear", align_corners=True).softmax(1)[:, 1]
    found = mean_map((logits[:, 1] - logits[:, 0])[:, None], "image", 20)
    torch.testing.assert_close(found, full)


def test_interpolation_is_linear_with_aligned_corners() -> None:
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)  # one value per column
    torch.testing.assert_close(at_pixels(ramp, 10)[0, 0], (torch.arange(10.0) / 3).expand(10, 10))


def test_the_mean_is_over_probabilities_not_log_odds() -> None:
    log_odds = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1)  # probabilities 1/2 and 3/4
    assert mean_map(log_odds, "grid", 8).item() == pytest.approx(5 / 8)


def test_losses_of_perfect_and_of_inverted_maps() -> None:
    """With two taps, perfect maps have a loss of 0; label smoothing bounds the loss of inverted ones."""
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[1, :, :4] = True
    right = torch.where(masks, 50.0, -50.0)[:, None].expand(-1, 2, -1, -1)
    assert all(value.item() == pytest.approx(0, abs=1e-4) for value in map_losses(right, masks).values())
    wrong = map_losses(-right, masks)
    assert wrong["focal"].item() == pytest.approx(-2 * math.log(2 * LABEL_SMOOTHING), rel=1e-3)
    assert wrong["dice"].item() == pytest.approx(2 * (1 - (1 / 65 + 1 / 65) / 2), rel=1e-4)
