import open_clip
import pytest
import torch
from torch import nn

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.methods.base import Batch
from kanoclip.methods.mvfa import Adapter, Mvfa, MvfaOptions


@pytest.fixture
def method(backbone: Backbone) -> Mvfa:
    torch.manual_seed(0)
    return Mvfa(backbone, MvfaOptions(), seed=0).eval()


@pytest.fixture
def batch() -> Batch:
    g = torch.Generator().manual_seed(1)
    features = {Tap("tokens", 2): torch.randn(4, 17, 128, generator=g)}
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    masks[1, 4:9, 4:9] = masks[3, 20:30, 1:8] = True
    return Batch(["a", "b", "c", "d"], ["nut", "nut", "bolt", "bolt"], features, torch.tensor([0, 1, 0, 1]), masks)


def test_parameter_count_on_vit_l_14() -> None:
    """12,582,912 in two adapters at four levels; counting needs no weights."""
    model = open_clip.get_model_config(Mvfa.published_backbone["model"])
    adapter = Adapter(model["vision_cfg"]["width"], model["embed_dim"])
    assert 2 * 4 * sum(parameter.numel() for parameter in adapter.parameters()) == 12_582_912


def test_it_learns_only_two_adapters_per_level(method: Mvfa) -> None:
    assert len(method.learned()) == 2 * 4 * 2
    assert sum(parameter.numel() for parameter in method.learned().values()) == 2 * 4 * 2 * 128 * 128
    assert not any(parameter.requires_grad for parameter in method.backbone.parameters())


def test_gradients_reach_every_adapter_through_the_frozen_blocks(method: Mvfa, batch: Batch) -> None:
    """Only the up projections of the last level get none, because no block follows."""
    sum(method.losses(batch).values()).backward()
    still = {name for name, parameter in method.learned().items() if parameter.grad is None}
    assert still == {"segmentation.3.up.weight", "detection.3.up.weight"}
    moved = [parameter for name, parameter in method.learned().items() if name not in still]
    assert all(parameter.grad.abs().sum() > 0 for parameter in moved)
    assert all(parameter.grad is None for parameter in method.backbone.parameters())


def test_both_branches_change_the_residual_stream(method: Mvfa, batch: Batch) -> None:
    """The loss of the maps alone has a gradient in the detection adapters, because they change later blocks."""
    losses = method.losses(batch)
    (losses["focal"] + losses["dice"]).backward()
    assert method.detection[0].up.weight.grad.abs().sum() > 0
    assert method.detection[3].down.weight.grad is None


def test_without_residuals_the_tower_equals_clips(backbone: Backbone) -> None:
    method = Mvfa(backbone, MvfaOptions(residual=0), seed=0)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    taps = [Tap("tokens", tap) for tap in backbone.quarters]
    features = backbone.encode_images(pixels, taps)
    for found, tap, adapter in zip(method._levels(features[taps[0]])[0], taps, method.segmentation, strict=True):
        adapted = nn.functional.leaky_relu(adapter.down(features[tap][:, 1:]), 0.01)
        torch.testing.assert_close(found, adapted / adapted.norm(dim=-1, keepdim=True), atol=1e-5, rtol=1e-5)


def test_steps_along_the_gradient_lower_the_loss(method: Mvfa, batch: Batch) -> None:
    (phase,) = method.phases()
    optimizer = phase.optimizer([{**group, "lr": 1e-3} for group in phase.groups])
    values = []
    for _ in range(10):
        loss = torch.stack(list(phase.losses(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.8 * values[0]


def test_it_reads_only_the_tokens_before_the_first_adapters() -> None:
    tower = TowerShape(24, (6, 12, 18, 24), vv_start=6, width=1024, joint_width=768, grid=(37, 37))
    assert Mvfa.reads(MvfaOptions(), tower) == {Tap("tokens", 6)}
