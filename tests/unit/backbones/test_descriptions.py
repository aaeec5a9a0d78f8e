"""Compare descriptions read from files with the models that open_clip builds, without allocating their weights."""

import json
import subprocess
import sys

import open_clip
import pytest
import timm
import torch
from open_clip.model import CLIP
from open_clip.transformer import VisionTransformer

from kanoclip.backbones.descriptions import TRUNKS, Description, describe, model_names, unsupported
from kanoclip.backbones.weights import register_embedded
from kanoclip.types import InputError


@pytest.fixture(autouse=True, scope="module")
def embedded() -> None:
    register_embedded()


def built(name: str) -> CLIP:
    config = open_clip.get_model_config(name)
    config.pop("custom_text", None)
    with torch.device("meta"):
        return CLIP(**config)


@pytest.mark.parametrize("name", ["kanoclip-tiny", "ViT-B-32", "ViT-L-14-336-quickgelu", "ViT-H-14", "ViT-S-16-alt"])
def test_a_description_equals_that_of_the_built_model(name: str) -> None:
    clip, found = built(name), describe(name)
    visual = clip.visual
    assert isinstance(visual, VisionTransformer)
    block = visual.transformer.resblocks[0]
    image = (len(visual.transformer.resblocks), visual.conv1.out_channels, block.attn.num_heads, visual.patch_size[0])
    assert (found.layers, found.width, found.heads, found.patch_size) == image
    assert found.image_size == visual.image_size[0] and found.joint_width == visual.output_dim
    text = (len(clip.transformer.resblocks), clip.token_embedding.embedding_dim, clip.context_length)
    assert (found.text_layers, found.text_width, found.context_length) == text
    assert (found.pooling, found.text_pooling) == (visual.pool_type, clip.text_pool_type)
    assert found.causal == (clip.attn_mask is not None)
    quick = any(type(module).__name__ == "QuickGELU" for module in clip.modules())
    assert found.quick_gelu == quick


def test_exactly_the_usable_models_of_open_clip_are_listed() -> None:
    listed = model_names()
    assert {"kanoclip-tiny", "ViT-B-16", "ViT-L-14-336-quickgelu", "ViT-H-14-378"} <= set(listed)
    assert set(listed) < set(open_clip.list_models())
    for name in listed:
        config = open_clip.get_model_config(name)
        vision, text = config["vision_cfg"], config["text_cfg"]
        assert not {"attentional_pool", "pool_type"} & set(vision) and vision.get("timm_pool", "token") == "token", name
        assert not {"hf_model_name", "hf_tokenizer_name", "pool_type", "embed_cls"} & set(text), name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("RN50", "image tower is a ResNet"),
        ("ViTamin-L", "image tower is vitamin_large_224"),
        ("ViT-B-16-SigLIP2", "attention pooling"),
        ("PE-Core-B-16", "attention pooling"),
        ("MobileCLIP-S1", "image tower is fastvit_mci1"),
        ("nllb-clip-base", "Hugging Face"),
        ("convnext_base", "image tower is convnext_base"),
        ("ViT-L-14-CLIPA", "the mean of the patches"),
        ("coca_ViT-B-32", "captions"),
        ("roberta-ViT-B-32", "Hugging Face"),
        ("ViT-H-14-worldwide", "end-of-text token"),
    ],
)
def test_the_error_says_why_a_model_cannot_be_used(name: str, reason: str) -> None:
    assert reason in unsupported(name)
    assert name not in model_names()


def test_kinds_of_towers_are_recognised() -> None:
    kinds = {name: describe(name).kind for name in ("RN50", "EVA02-L-14", "ViT-B-16-SigLIP", "ViT-B-16")}
    assert list(kinds.values()) == ["other", "timm-vit", "other", "openclip-vit"]
    assert isinstance(describe("RN50"), Description) and describe("RN50").layers is None


@pytest.mark.parametrize("name", sorted(TRUNKS))
def test_descriptions_of_timm_trunks_equal_the_built_ones(name: str) -> None:
    with torch.device("meta"):
        trunk = timm.create_model(name, global_pool="token")
    patch = trunk.patch_embed.feat_ratio(as_scalar=True)
    assert (len(trunk.blocks), trunk.embed_dim, trunk.blocks[0].attn.num_heads, patch) == TRUNKS[name]


def test_the_error_on_an_unknown_model_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"^unknown backbone 'ViT-L-15'; did you mean 'ViT-L-1\d"):
        describe("ViT-L-15")


def test_open_clip_is_not_imported() -> None:
    code = (
        "import json, sys, kanoclip.backbones.descriptions as d; d.model_names(); print(json.dumps(list(sys.modules)))"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"torch", "open_clip", "timm"} & set(loaded)
