"""Test every accepted family of open_clip models with fewer and narrower layers than its JSON and random weights."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from open_clip import factory
from torch import Tensor

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.backbones.descriptions import describe
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig
from kanoclip.types import InputError

LAYERS, GRID, HEADS = 3, 3, 2
OPENAI_AND_THE_LIKE = ["ViT-B-32", "ViT-L-14-quickgelu", "ViT-H-14", "ViT-g-14", "ViT-bigG-14", "ViT-M-16-alt"]
EVA = ["EVA01-g-14", "EVA01-g-14-plus", "EVA02-B-16", "EVA02-L-14", "EVA02-E-14-plus"]
MOBILE = ["MobileCLIP-B", "MobileCLIP2-L-14"]
ROTARY = ["EVA02-B-16", "EVA02-L-14"]


@pytest.fixture(scope="module", params=OPENAI_AND_THE_LIKE + EVA + MOBILE)
def shrunk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backbone]:
    """Build a small backbone under its real name, for another image size than that of its position table."""
    name, folder = request.param, tmp_path_factory.mktemp("models")
    content = json.loads(json.dumps(open_clip.get_model_config(name)))
    vision, text = content["vision_cfg"], content["text_cfg"]
    text |= {"layers": 2, "width": 32, "heads": 2}
    content["embed_dim"] = 24
    if "timm_model_name" not in vision:
        vision |= {"layers": LAYERS, "width": 16 * HEADS, "head_width": 16, "image_size": 4 * vision["patch_size"]}
    (folder / f"{name}.json").write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factory, "_MODEL_CONFIG_PATHS", [*factory._MODEL_CONFIG_PATHS])
        patch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
        patch.setattr(timm, "create_model", narrow(timm.create_model))
        open_clip.add_model_config(folder)
        # this would read the original files
        patch.setattr("kanoclip.backbones.weights.register_embedded", lambda: None)
        patch_size = describe(name).patch_size
        assert patch_size is not None
        size = GRID * patch_size
        backbone = load_backbone(BackboneConfig(model=name, weights="random:0", image_size=size, vv_start=2))
        generator = torch.Generator().manual_seed(0)
        for (
            parameter
        ) in backbone.parameters():  # random values, so that biases, scales and rarely used terms have an effect
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        yield backbone


def narrow(create: Callable[..., Any]) -> Callable[..., Any]:
    def created(model: str, **settings: Any) -> Any:
        size = {"embed_dim": 32 * HEADS, "depth": LAYERS, "num_heads": HEADS}
        return create(model, **({} if model == "vit_base_mci_224" else size) | settings)

    return created


@pytest.fixture(scope="module")
def pixels(shrunk: Backbone) -> Tensor:
    size = shrunk.config.image_size
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_image_tower_equals_open_clip(shrunk: Backbone, pixels: Tensor) -> None:
    every = range(1, shrunk.layers + 1)
    ours = shrunk.encode_images(pixels, [Tap("cls", shrunk.layers), *(Tap("tokens", at) for at in every)])
    with torch.no_grad():
        theirs = shrunk.clip.visual.forward_intermediates(pixels, output_fmt="NLC")["image_intermediates"]
    assert shrunk.grid == (GRID, GRID)
    for at in every:
        torch.testing.assert_close(ours[Tap("tokens", at)][:, 1:], theirs[at - 1], atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        expected = shrunk.clip.encode_image(pixels, normalize=True)
    torch.testing.assert_close(shrunk.project(ours[Tap("cls", shrunk.layers)]), expected, atol=1e-5, rtol=1e-4)


def test_text_tower_equals_open_clip(shrunk: Backbone) -> None:
    texts = ["a photo of a bottle.", "x", "a longer text about a screw with a scratch on its thread"]
    with torch.no_grad():
        expected = shrunk.clip.encode_text(open_clip.get_tokenizer("ViT-B-32")(texts))
    torch.testing.assert_close(shrunk.encode_text(texts), expected, atol=1e-5, rtol=1e-4)


def test_attention_with_softmax_equals_that_of_the_block(shrunk: Backbone, pixels: Tensor) -> None:
    """With softmax(q kᵀ) v, `attend` adds the same as the attention of the block itself."""
    tower = copy.deepcopy(shrunk.tower)
    with torch.no_grad():
        x = tower.embed(pixels)
        for number in range(1, tower.layers + 1):
            block = tower.blocks[number - 1]
            for parameter in block.mlp.parameters():  # without the MLP, a block is x plus its attention
                parameter.zero_()
            if type(block).__name__ == "EvaBlockPostNorm":
                block.norm2.weight.zero_()
                block.norm2.bias.zero_()
            found = tower.attend(number, x, F.scaled_dot_product_attention)
            torch.testing.assert_close(x + found, tower.block(number, x), atol=1e-5, rtol=1e-4)


def test_attention_and_mlp_make_a_block(shrunk: Backbone, pixels: Tensor) -> None:
    tower = shrunk.tower
    with torch.no_grad():
        x = tower.embed(pixels)
        for number in range(1, tower.layers + 1):
            attended = x + tower.attend(number, x, F.scaled_dot_product_attention)
            found, x = attended + tower.mlp(number, attended), tower.block(number, x)
            torch.testing.assert_close(found, x, atol=1e-5, rtol=1e-4)
        normed = tower.final_norm(x)
        torch.testing.assert_close(tower.project(normed, norm=False), tower.project(x))
        assert not torch.allclose(normed, x)


def test_local_stream_equals_loops_over_heads(shrunk: Backbone, pixels: Tensor) -> None:
    tower = shrunk.tower
    with torch.no_grad():
        inputs = [tower.embed(pixels)]
        for number in range(1, tower.layers + 1):
            inputs.append(tower.block(number, inputs[-1]))
        s = inputs[1]
        for number in range(2, tower.layers + 1):
            s = s + value_value_by_hand(tower.blocks[number - 1], inputs[number - 1])
            found = shrunk.encode_images(pixels, [Tap("vv", number)])[Tap("vv", number)]
            torch.testing.assert_close(found, s, atol=1e-5, rtol=1e-3)


def value_value_by_hand(block: Any, x: Tensor) -> Tensor:
    """Return what value-value attention adds to (B, L, W); kinds of blocks name their parts differently."""
    kind, attention = type(block).__name__, block.attn
    x = x if kind == "EvaBlockPostNorm" else block.ln_1(x) if hasattr(block, "ln_1") else block.norm1(x)
    weight, bias = values(attention)
    v = x @ weight.T + bias
    heads = [
        (part @ part.transpose(1, 2) / part.shape[-1] ** 0.5).softmax(-1) @ part
        for part in v.split(v.shape[-1] // attention.num_heads, dim=-1)
    ]
    mixed = torch.cat(heads, -1)
    if hasattr(block, "ln_1"):
        mixed = mixed @ attention.out_proj.weight.T + attention.out_proj.bias
        return mixed * block.ls_1.gamma if hasattr(block.ls_1, "gamma") else mixed
    mixed = attention.norm(mixed) @ attention.proj.weight.T + attention.proj.bias
    return block.norm1(mixed) if kind == "EvaBlockPostNorm" else mixed


def values(attention: Any) -> tuple[Tensor, Tensor]:
    if hasattr(attention, "in_proj_weight"):
        return attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2]
    if attention.qkv is None:
        return attention.v_proj.weight, attention.v_proj.bias
    bias = attention.v_bias if hasattr(attention, "v_bias") else attention.qkv.bias.chunk(3)[2]
    return attention.qkv.weight.chunk(3)[2], bias


def test_windows_work_only_with_added_positions(shrunk: Backbone, pixels: Tensor) -> None:
    """A window as large as the image equals the image; rotary blocks refuse windows."""
    tap = Tap("windows", GRID)
    if shrunk.config.model in ROTARY:
        with pytest.raises(InputError, match="tap windows/3: the blocks of this tower rotate by position"):
            shrunk.encode_images(pixels, [tap])
        return
    with torch.no_grad():
        expected = shrunk.clip.encode_image(pixels, normalize=True)
    torch.testing.assert_close(shrunk.encode_images(pixels, [tap])[tap][:, 0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("RN50", "its image tower is a ResNet"),
        ("convnext_base", "its image tower is convnext_base"),
        ("ViTamin-L", "its image tower is vitamin_large_224"),
        ("MobileCLIP-S1", "its image tower is fastvit_mci1"),
        ("ViT-L-14-CLIPA", "its image vector is the mean of the patches"),
        ("ViT-B-16-SigLIP", "its image vector comes from attention pooling"),
        ("ViT-B-16-SigLIP2", "its image vector comes from attention pooling"),
        ("PE-Core-B-16", "its image vector comes from attention pooling"),
        ("coca_ViT-B-32", "it is made to write captions"),
        ("nllb-clip-base", "its text tower comes from Hugging Face"),
        ("roberta-ViT-B-32", "its text tower comes from Hugging Face"),
        ("mt5-base-ViT-B-32", "its text tower comes from Hugging Face"),
        ("xlm-roberta-base-ViT-B-32", "its text tower comes from Hugging Face"),
        ("ViT-H-14-worldwide", "its text vector is that of the token 'eos'"),
    ],
)
def test_other_families_are_refused_in_one_line(model: str, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        load_backbone(BackboneConfig(model=model, weights="random:0", image_size=224))
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_position_resize_is_refused_for_towers_of_timm() -> None:
    config = BackboneConfig(model="EVA02-B-16", weights="random:0", image_size=32, position_resize="bilinear")
    with pytest.raises(InputError, match="position_resize bilinear is not possible with an image tower of timm"):
        load_backbone(config)
