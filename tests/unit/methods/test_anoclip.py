from dataclasses import replace

import pytest
import torch

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.methods.adaptation import Draws, adaptation_loss
from kanoclip.methods.anoclip import AnoClip, AnoClipOptions, smoothed
from kanoclip.methods.base import AnomalyOutput, Batch
from kanoclip.prompts.ensemble import prompts


@pytest.fixture(scope="module")
def batch(backbone: Backbone) -> Batch:
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = backbone.encode_images(pixels, [Tap("vv", 6), Tap("views", 22)])
    return Batch(list("abcde"), ["nut", "tile", "nut", "bolt", "wood"], features)


def part(batch: Batch, rows: list[int]) -> Batch:
    features = {tap: values[rows] for tap, values in batch.features.items()}
    return Batch([batch.images[row] for row in rows], [batch.class_names[row] for row in rows], features)


@torch.no_grad()
def scored(backbone: Backbone, batch: Batch, **options: object) -> AnomalyOutput:
    return AnoClip(backbone, AnoClipOptions(**options), seed=0).eval()(batch)


def test_each_image_is_adapted_to_separately(backbone: Backbone, batch: Batch) -> None:
    """The order and the batch do not matter, and adaptation changes the map, not the score."""
    plain, together = scored(backbone, batch), scored(backbone, batch, adaptation_steps=5)
    assert (together.map - plain.map).abs().max() > 1e-4
    assert torch.equal(together.image_score, plain.image_score)
    order = [3, 0, 4, 2, 1]
    shuffled = scored(backbone, part(batch, order), adaptation_steps=5)
    torch.testing.assert_close(shuffled.map, together.map[order], atol=1e-6, rtol=0)
    for row in range(5):
        alone = scored(backbone, part(batch, [row]), adaptation_steps=5)
        torch.testing.assert_close(alone.map[0], together.map[row], atol=1e-6, rtol=0)


def test_adaptation_works_in_inference_mode_and_changes_no_parameter(backbone: Backbone, batch: Batch) -> None:
    method = AnoClip(backbone, AnoClipOptions(adaptation_steps=2), seed=0).eval()
    with torch.no_grad():
        expected = method(batch)
    with torch.inference_mode():
        features = {tap: values.clone() for tap, values in batch.features.items()}
        found = method(replace(batch, features=features))
        assert not torch.is_grad_enabled()
    torch.testing.assert_close(found.map, expected.map, atol=1e-6, rtol=0)
    assert not found.map.requires_grad
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_the_loss_equals_a_value_by_hand() -> None:
    """At probabilities of 1/2, the entropy is log 2 and half of two cross-entropies is log 2."""
    torch.testing.assert_close(adaptation_loss(torch.zeros(2, 4)), torch.tensor(2.0).log() * 2)
    confident = adaptation_loss(torch.tensor([[-50.0], [50.0]]))
    torch.testing.assert_close(confident, torch.tensor(0.0))


def test_parameter_count_on_vit_b_16_plus_240() -> None:
    """592,284: 924 prompts of 640 numbers, and a bias."""
    draws = Draws.of(2 * 7 * 66, 225, 640, 5, torch.device("cpu"))
    assert draws.weight.numel() + draws.bias.numel() == 592_284
    assert draws.weight.abs().max() <= 640**-0.5


def test_objects_and_textures_have_different_prompts(backbone: Backbone, batch: Batch) -> None:
    for ensemble, said in (("anoclip_object", "manufacturing image"), ("anoclip_texture", "surface picture")):
        for polarity in ("normal", "abnormal"):
            texts = prompts(ensemble, polarity, "tile")
            assert len(texts) == len(set(texts)) == 462
            assert sum(said in text for text in texts) == 154
    assert "an industrial image of the small blemished nut" in prompts("anoclip_object", "abnormal", "nut")
    assert "a dark textural photo of a tile without flaw" in prompts("anoclip_texture", "normal", "tile")
    as_texture, as_object = scored(backbone, batch), scored(backbone, batch, textures=[])
    changed = (as_texture.image_score != as_object.image_score).tolist()
    assert changed == [False, True, False, False, True]


def test_patches_are_averaged_with_their_neighbours() -> None:
    found = smoothed(torch.eye(3)[None] * 9)
    torch.testing.assert_close(found, torch.tensor([[[5.0, 3.0, 1.0], [3.0, 3.0, 3.0], [1.0, 3.0, 5.0]]]))


def test_it_reads_the_last_block_and_the_views() -> None:
    tower = TowerShape(12, (3, 6, 9, 12), vv_start=1, width=896, joint_width=640, grid=(15, 15))
    assert AnoClip.reads(AnoClipOptions(views=5), tower) == {Tap("vv", 12), Tap("views", 5)}
