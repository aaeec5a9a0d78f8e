import math

import open_clip
import pytest
import torch

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.config import parse
from kanoclip.methods.anomalyclip import AnomalyCLIP, AnomalyCLIPOptions, object_prompts
from kanoclip.methods.base import Batch
from kanoclip.types import InputError


@pytest.fixture
def method(backbone: Backbone) -> AnomalyCLIP:
    torch.manual_seed(0)
    return AnomalyCLIP(backbone, AnomalyCLIPOptions(prompt_length=3, deep_length=2), seed=0).eval()


@pytest.fixture
def batch() -> Batch:
    g = torch.Generator().manual_seed(1)
    features = {Tap("vv", tap): torch.randn(4, 17, 128, generator=g) for tap in (2, 3, 4, 6)}
    features[Tap("cls", 6)] = torch.randn(4, 128, generator=g)
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    masks[1, 4:9, 4:9] = masks[3, 20:30, 1:8] = True
    return Batch(["a", "b", "c", "d"], ["nut", "nut", "bolt", "bolt"], features, torch.tensor([0, 1, 0, 1]), masks)


def test_parameter_count_on_vit_l_14() -> None:
    """43,008; counting needs no weights."""
    text = open_clip.get_model_config(AnomalyCLIP.published_backbone["model"])["text_cfg"]
    parameters = dict(object_prompts(text["width"], text["layers"], AnomalyCLIPOptions()).named_parameters())
    assert {name: tuple(p.shape) for name, p in parameters.items()} == {
        "context": (2, 12, 768),
        "deep.layers": (8, 4, 768),
    }
    assert sum(math.prod(p.shape) for p in parameters.values()) == 43_008


def test_every_learned_parameter_gets_a_gradient_and_the_backbone_none(method: AnomalyCLIP, batch: Batch) -> None:
    sum(method.losses(batch).values()).backward()
    assert set(method.learned()) == {"prompts.context", "prompts.deep.layers"}
    assert all((parameter.grad.abs().sum(-1) > 0).all() for parameter in method.learned().values())
    assert all(parameter.grad is None for parameter in method.backbone.parameters())


def test_steps_along_the_gradient_lower_the_loss(method: AnomalyCLIP, batch: Batch) -> None:
    (phase,) = method.phases()
    optimizer = phase.optimizer(phase.groups)
    values = []
    for _ in range(15):
        loss = torch.stack(list(phase.losses(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.9 * values[0]


def test_class_names_do_not_change_the_scores(method: AnomalyCLIP, batch: Batch) -> None:
    renamed = Batch(batch.images, ["zipper", "cable", "zipper", "grid"], batch.features)
    with torch.no_grad():
        assert torch.equal(method(batch).image_score, method(renamed).image_score)


def test_cached_text_vectors_are_dropped_by_training(method: AnomalyCLIP, batch: Batch) -> None:
    """Text vectors are kept between batches, but not across training."""
    with torch.no_grad():
        before = method(batch).image_score
        method.train()
        torch.nn.init.normal_(method.prompts.context, std=0.5)
        method.eval()
        assert (method(batch).image_score - before).abs().max() > 1e-4


def test_it_reads_the_class_token_and_the_blocks_of_the_map() -> None:
    tower = TowerShape(24, (6, 12, 18, 24), vv_start=6, width=1024, joint_width=768, grid=(37, 37))
    cls = Tap("cls", 24)
    assert AnomalyCLIP.reads(AnomalyCLIPOptions(), tower) == {cls, Tap("vv", 24)}
    stages = {Tap("vv", tap) for tap in (6, 12, 18, 24)}
    assert AnomalyCLIP.reads(AnomalyCLIPOptions(map_blocks="stages"), tower) == {cls, *stages}


def test_map_weight_scales_only_the_map_losses(backbone: Backbone, batch: Batch) -> None:
    one, four = [], []
    for weight, losses in ((1, one), (4, four)):
        torch.manual_seed(0)
        losses.append(AnomalyCLIP(backbone, AnomalyCLIPOptions(map_weight=weight), seed=0).losses(batch))
    for name, loss in four[0].items():
        torch.testing.assert_close(loss, (1 if name == "image" else 4) * one[0][name])


@pytest.mark.parametrize(("layers", "blocks"), [(12, 9), (3, 2), (1, 1)])
def test_deep_prompts_reach_three_quarters_of_the_tower(layers: int, blocks: int) -> None:
    deep = object_prompts(8, layers, AnomalyCLIPOptions()).deep
    assert deep is not None and len(deep.layers) == blocks - 1


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="'deep_length': must be at most prompt_length 3, found 4"):
        parse(AnomalyCLIPOptions, {"prompt_length": 3}, "options of anomalyclip")
    with pytest.raises(InputError, match="deep_depth must be at most 3, the text tower's blocks, found 4"):
        object_prompts(8, 3, AnomalyCLIPOptions(deep_depth=4))
