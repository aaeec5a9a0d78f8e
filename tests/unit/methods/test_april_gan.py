import pytest
import torch
import torch.nn.functional as F

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.methods.april_gan import AprilGan, AprilGanOptions, tap_projections
from kanoclip.methods.base import Batch


@pytest.fixture
def batch(backbone: Backbone) -> Batch:
    """Return patches that differ under the masks in one direction, the same in every tap."""
    g = torch.Generator().manual_seed(0)
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    masks[1, :16, :16] = masks[3, 8:24, 16:] = True
    marked = masks[:, ::8, ::8].flatten(1)  # (4, 16), aligned with the patches
    direction = torch.randn(backbone.width, generator=g)
    features = {Tap("cls", backbone.layers): torch.randn(4, backbone.width, generator=g)}
    for tap in backbone.quarters:
        tokens = torch.randn(4, 17, backbone.width, generator=g)
        tokens[:, 1:][marked] += 2 * direction
        features[Tap("tokens", tap)] = tokens
    return Batch(["a", "b", "c", "d"], ["nut", "nut", "bolt", "bolt"], features, torch.tensor([0, 1, 0, 1]), masks)


def build(backbone: Backbone, **options: object) -> AprilGan:
    torch.manual_seed(0)
    return AprilGan(backbone, AprilGanOptions(**options), seed=0)


def test_parameter_count_with_the_papers_backbone() -> None:
    """3,148,800 on ViT-L/14, with widths 1024 and 768; counting needs no weights."""
    projections = tap_projections(4, 1024, 768)
    assert sum(parameter.numel() for parameter in projections.parameters()) == 4 * 787_200 == 3_148_800


def test_training_finds_the_pixels_of_the_masks(backbone: Backbone, batch: Batch) -> None:
    method = build(backbone)
    (phase,) = method.phases()
    optimizer = phase.optimizer(phase.groups)
    before = sum(phase.losses(batch).values()).item()
    for _ in range(40):
        optimizer.zero_grad()
        sum(phase.losses(batch).values()).backward()
        optimizer.step()
    assert all(parameter.grad.abs().sum() > 0 for parameter in method.learned().values())
    assert all(parameter.grad is None for parameter in backbone.parameters())
    with torch.no_grad():
        after, maps = sum(method.losses(batch).values()).item(), method(batch).map
    marked = batch.masks[:, ::8, ::8]
    assert after < before / 2
    assert maps[marked].mean() > 0.5 > maps[~marked].mean()


def test_class_tokens_of_taps_are_ignored(backbone: Backbone, batch: Batch) -> None:
    method = build(backbone)
    changed = {
        tap: F.pad(tensor[:, 1:], (0, 0, 1, 0)) if tap.kind == "tokens" else tensor
        for tap, tensor in batch.features.items()
    }
    with torch.no_grad():
        one, two = method(batch), method(Batch(batch.images, batch.class_names, changed))
    assert torch.equal(one.map, two.map)


def test_maps_have_the_resolution_of_the_grid_or_the_image(backbone: Backbone, batch: Batch) -> None:
    """The corner pixels have the values of the corner patches, and only the maps differ."""
    with torch.no_grad():
        grid, image = (build(backbone, map_resolution=where)(batch) for where in ("grid", "image"))
    assert grid.map.shape == (4, 4, 4) and image.map.shape == (4, 32, 32)
    corners = image.map[:, ::31, ::31]
    torch.testing.assert_close(corners, grid.map[:, ::3, ::3], atol=1e-5, rtol=1e-5)
    assert torch.equal(grid.image_score, image.image_score)
