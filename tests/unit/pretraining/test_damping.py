from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig
from kanoclip.pretraining.averaging import DECIDING, MEASURES
from kanoclip.pretraining.damping import FACTORS, choose_damping, damped


@pytest.fixture
def tower() -> Backbone:
    return load_backbone(BackboneConfig(model="kanoclip-test", weights="random:0", image_size=64))


def by_the_formula(backbone: Backbone, x: Tensor, factors: Sequence[float]) -> Tensor:
    for block, factor in zip(backbone.blocks, factors, strict=True):
        inner = block.ln_1(x)
        x = x + factor * block.attn(inner, inner, inner, need_weights=False)[0]
        x = x + factor * block.mlp(block.ln_2(x))
    return x


@torch.no_grad()
def test_damped_weights_compute_the_formula(tower):
    factors = [1.0, 0.85, 0.5, 1.0, 0.7, 0.3][: tower.layers]
    x = tower.tower.embed(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    expected = by_the_formula(tower, x, factors)
    tower.clip.load_state_dict(damped(tower.clip.state_dict(), factors))
    last = Tap("tokens", tower.layers)
    torch.testing.assert_close(tower.tower.run(x, watch=[last])[last], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_tower_with_all_blocks_at_zero_returns_its_input(tower):
    x = tower.tower.embed(torch.randn(1, 3, 64, 64))
    tower.clip.load_state_dict(damped(tower.clip.state_dict(), [0.0] * tower.layers))
    taps = [Tap("tokens", tower.layers), Tap("vv", tower.layers)]
    for found in tower.tower.run(x, watch=taps).values():
        torch.testing.assert_close(found, x)


@pytest.mark.parametrize("wanted", [(1.0, 0.7, 1.0, 0.5, 0.85, 1.0), (1.0,) * 6])
def test_the_factors_that_validate_best_are_chosen(tower, wanted):
    bias = "visual.transformer.resblocks.{}.attn.out_proj.bias"
    for block in tower.blocks:
        torch.nn.init.ones_(block.attn.out_proj.bias)

    def judge() -> dict[str, dict[str, float]]:
        state = tower.clip.state_dict()
        distance = sum(abs(state[bias.format(number)][0].item() - factor) for number, factor in enumerate(wanted))
        return {name: dict.fromkeys(MEASURES, 1 - distance / 10) for name in DECIDING}

    tried = choose_damping(tower.clip, tower.layers, judge)
    found = [tower.clip.state_dict()[bias.format(number)][0].item() for number in range(tower.layers)]
    assert found == pytest.approx(wanted)
    assert next(iter(tried)) == (1.0,) * tower.layers
    assert len(tried) == 1 + tower.layers * len(FACTORS)
