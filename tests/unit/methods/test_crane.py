import math
from dataclasses import replace
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.methods.anomalyclip import object_prompts
from kanoclip.methods.base import Batch
from kanoclip.methods.crane import Crane, CraneOptions
from kanoclip.methods.crane_plus import CranePlus, CranePlusOptions, resample
from kanoclip.types import InputError

SECOND = Tap("tokens", 12, "dino")
LARGE = TowerShape(24, (6, 12, 18, 24), vv_start=6, width=1024, joint_width=768, grid=(37, 37))


def build(kind: type[Crane], backbone: Backbone, **options: Any) -> Crane:
    torch.manual_seed(0)
    return kind(backbone, kind.Options(**options), seed=0).eval()


@pytest.fixture
def batch() -> Batch:
    g = torch.Generator().manual_seed(1)
    features = {Tap("qkv", tap): torch.randn(4, 17, 128, generator=g) for tap in (2, 3, 4, 6)}
    features |= {
        Tap("cls", 6): torch.randn(4, 128, generator=g),
        Tap("tokens", 5): torch.randn(4, 17, 128, generator=g),
    }
    features[SECOND] = torch.randn(4, 5, 192, generator=g)
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    masks[1, 4:9, 4:9] = masks[3, 20:30, 1:8] = True
    return Batch(["a", "b", "c", "d"], ["nut", "nut", "bolt", "bolt"], features, torch.tensor([0, 1, 0, 1]), masks)


def test_parameter_count_on_vit_l_14() -> None:
    """43,008, like AnomalyCLIP; counting needs no weights."""
    text = open_clip.get_model_config(Crane.published_backbone["model"])["text_cfg"]
    learned = object_prompts(text["width"], text["layers"], CraneOptions(**Crane.published))
    assert sum(math.prod(p.shape) for p in learned.parameters()) == 43_008


@pytest.mark.parametrize("kind", [Crane, CranePlus])
def test_only_the_prompts_are_learned(kind: type[Crane], backbone: Backbone, batch: Batch) -> None:
    method = build(kind, backbone)
    sum(method.losses(batch).values()).backward()
    assert set(method.learned()) == {"prompts.context", "prompts.deep.layers"}
    assert all((parameter.grad.abs().sum(-1) > 0).all() for parameter in method.learned().values())
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_steps_along_the_gradient_lower_the_loss(backbone: Backbone, batch: Batch) -> None:
    (phase,) = build(CranePlus, backbone).phases()
    optimizer = phase.optimizer(phase.groups)
    assert optimizer.defaults["betas"] == (0.6, 0.999) and optimizer.defaults["lr"] == 1e-3
    values = []
    for _ in range(15):
        loss = torch.stack(list(phase.losses(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.95 * values[0]


def test_it_reads_the_class_token_and_the_blocks_of_the_map() -> None:
    cls = Tap("cls", 24)
    assert Crane.reads(CraneOptions(), LARGE) == {cls, Tap("qkv", 24)}
    stages = {Tap("qkv", tap) for tap in (6, 12, 18, 24)}
    assert Crane.reads(CraneOptions(map_blocks="stages"), LARGE) == {cls, *stages}
    plus = CranePlusOptions(second_tower="mae", second_block=7)
    assert CranePlus.reads(plus, LARGE) == {cls, Tap("qkv", 24), Tap("tokens", 23), Tap("tokens", 7, "mae")}


def test_image_context_changes_only_the_prompt_of_that_image(backbone: Backbone, batch: Batch) -> None:
    """Another class token changes the score of its image in any case, and its map only with image context."""
    changed = batch.features[Tap("cls", 6)].clone()
    changed[0] += torch.randn(128, generator=torch.Generator().manual_seed(2))
    other = replace(batch, features={**batch.features, Tap("cls", 6): changed})
    for context in (True, False):
        method = build(Crane, backbone, context_in_scoring=context)
        torch.nn.init.normal_(method.prompts.context, std=0.5)
        with torch.no_grad():
            before, after = method(batch), method(other)
        difference = (after.map - before.map).abs().amax((1, 2))
        assert (difference[0] > 1e-6) == context and difference[1:].max() < 1e-6
        assert (after.image_score - before.image_score)[0].abs() > 1e-6


def test_the_image_is_one_token_between_context_and_object(backbone: Backbone) -> None:
    """With the embedding of a word in place of the image, the prompt gives CLIP's text feature of that sentence."""
    method = build(Crane, backbone, prompt_length=2, deep_depth=1, deep_length=1)
    ids = backbone.tokenize(["a photo rusty object."])[0]
    words = backbone.text.token_embedding(ids).detach()
    with torch.no_grad():
        method.prompts.context[:] = words[1:3]
        found = method._prompt_vectors(words[3][None])[0, 0]
    assert ids[4] != ids.max()  # "rusty" is one token, so "object" is next
    expected = F.normalize(backbone.encode_text(["a photo rusty object."])[0], dim=-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_without_context_the_text_is_encoded_once_and_again_after_training(backbone: Backbone, batch: Batch) -> None:
    method = build(Crane, backbone, context_in_scoring=False)
    with torch.no_grad():
        before = method(batch).image_score
        method.train()
        torch.nn.init.normal_(method.prompts.context, std=0.5)
        method.eval()
        assert (method(batch).image_score - before).abs().max() > 1e-4


def test_patches_of_the_second_tower_are_interpolated_to_clips_grid() -> None:
    features = F.normalize(torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert resample(features, (2, 3), (2, 3)) is features
    finer = resample(features, (2, 3), (4, 6))
    assert finer.shape == (2, 24, 8)
    torch.testing.assert_close(finer.norm(dim=-1), torch.ones(2, 24))
    # the corners are outside the centres
    torch.testing.assert_close(finer[:, [0, 5, 18, 23]], features[:, [0, 2, 3, 5]])


def published_file(width: int = 16, deep: int = 8) -> dict[str, Any]:
    """Return the content that the authors' training code saves, with random numbers."""
    g = torch.Generator().manual_seed(0)
    state = {name: torch.randn(1, 1, 12, width, generator=g) for name in ("ctx_pos", "ctx_neg")}
    state |= {f"compound_prompts_text.{n}": torch.randn(4, width, generator=g).half() for n in range(deep)}
    for polarity in ("pos", "neg"):
        state[f"tokenized_prompts_{polarity}"] = torch.zeros(1, 1, 77, dtype=torch.int32)
        state[f"token_prefix_{polarity}"] = torch.zeros(1, 1, 1, width)
        state[f"token_suffix_{polarity}"] = torch.zeros(1, 1, 64, width)
    return {"prompt_learner": state}


@pytest.mark.parametrize("kind", [Crane, CranePlus])
def test_published_prompts_are_imported(kind: type[Crane], backbone: Backbone) -> None:
    file = published_file(backbone.text_width, deep=1)
    method = build(kind, backbone, deep_depth=2)
    found = kind.from_published([file])
    assert {name: v.shape for name, v in found.items()} == {name: v.shape for name, v in method.learned().items()}
    state = file["prompt_learner"]
    assert torch.equal(found["prompts.context"], torch.cat([state["ctx_pos"][0], state["ctx_neg"][0]]))
    assert torch.equal(found["prompts.deep.layers"][0], state["compound_prompts_text.0"].float())


def test_ten_or_more_deep_prompts_keep_their_order() -> None:
    file = published_file(deep=11)
    layers = Crane.from_published([file])["prompts.deep.layers"]
    assert torch.equal(layers[10], file["prompt_learner"]["compound_prompts_text.10"].float())
    assert Crane.from_published([published_file(deep=0)])["prompts.deep.layers"].shape == (0, 1, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ctx_neg": None}, "ctx_neg: expected 4 dimensions, finite, found NoneType"),
        ({"ctx_pos": torch.zeros(3)}, r"ctx_pos: expected 4 dimensions, finite, found shape \(3,\)"),
        ({"ctx_pos": torch.full((1, 1, 12, 16), float("nan"))}, "ctx_pos: expected 4 dimensions, finite"),
        ({"ctx_pos": torch.zeros(1, 1, 11, 16)}, "expected prompts of one length and width"),
        ({"compound_prompts_text.3": torch.zeros(4, 15)}, "expected prompts of one length and width"),
    ],
)
def test_other_files_are_refused(change: dict[str, Any], message: str) -> None:
    file = published_file()
    file["prompt_learner"] |= change
    with pytest.raises(InputError, match=message):
        Crane.from_published([file])


@pytest.mark.parametrize("files", [[], [{}], [torch.zeros(1)], [published_file(), published_file()]])
def test_another_number_or_kind_of_files_is_refused(files: list[Any]) -> None:
    with pytest.raises(InputError, match="expected one checkpoint file with an entry prompt_learner"):
        Crane.from_published(files)
