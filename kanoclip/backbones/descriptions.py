"""Describe open_clip's models from its JSON files and ours, without importing open_clip."""

import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from kanoclip.types import InputError, unknown_name

EMBEDDED = Path(__file__).parent / "tiny"  # <model>.json, <model>.safetensors, <model>.sha256
PARTS = {"embed_dim", "vision_cfg", "text_cfg"}  # the keys of a model's JSON file, as open_clip requires

TRUNKS = {  # ViTs of timm with a class token: layers, width, heads, patch size
    "eva_giant_patch14_224": (40, 1408, 16, 14),
    "eva02_base_patch16_clip_224": (12, 768, 12, 16),
    "eva02_enormous_patch14_clip_224": (64, 1792, 16, 14),
    "eva02_large_patch14_clip_224": (24, 1024, 16, 14),
    "eva02_large_patch14_clip_336": (24, 1024, 16, 14),
    "vit_base_mci_224": (12, 768, 12, 16),
    "vit_large_patch14_clip_224": (24, 1024, 16, 14),
}


@dataclass(frozen=True)
class Description:
    """The shape of a CLIP model.

    Attributes:
        name: as open_clip knows it.
        kind: kind of the image tower: open_clip's own ViT, a ViT of timm in `TRUNKS`, or another (ResNet, SigLIP, ...).
        trunk: timm's name of the image tower; "" for one of open_clip.
        layers, width, heads, patch_size: of the image tower; None for another tower.
        image_size: pixels per side that the model was trained with.
        joint_width: width of the space that images and texts share.
        text_layers, text_width, context_length: of the text tower; None where only Hugging Face knows.
        pooling: how the image tower pools its tokens: "tok" uses the class token, "avg" the mean of all, "attention"
            and timm's "map" a learned query; "" leaves it to timm.
            text_pooling: the token that represents a text: "argmax" (the largest id, CLIP's end of text), "last", "eos"
        and so on, or "hf" for a text tower of Hugging Face.
            causal: whether the text tower's attention is causal.
        captions: whether it is a captioning model (CoCa).
        quick_gelu: whether its activation is OpenAI's.
    """

    name: str
    kind: Literal["openclip-vit", "timm-vit", "other"]
    trunk: str
    layers: int | None
    width: int | None
    heads: int | None
    patch_size: int | None
    image_size: int
    joint_width: int
    text_layers: int | None
    text_width: int | None
    context_length: int | None
    pooling: str
    text_pooling: str
    causal: bool
    captions: bool
    quick_gelu: bool


def model_names() -> list[str]:
    """Return the models that kanoclip can use, sorted."""
    return [name for name in sorted(_files()) if not unsupported(name)]


@cache
def describe(model: str) -> Description:
    """Return the shape of a model.

    Raises:
        InputError: open_clip has no such model.
    """
    if model not in _files():
        raise unknown_name("backbone", model, model_names())
    content = json.loads(_files()[model].read_text(encoding="utf-8"))
    image, text = content["vision_cfg"], content["text_cfg"]
    trunk = image.get("timm_model_name") or ""
    own = not trunk and isinstance(image.get("layers", 12), int)
    hugging_face = "hf_model_name" in text
    layers, width, heads, patch_size = _image_shape(image, trunk, own)
    return Description(
        name=model,
        kind="openclip-vit" if own else "timm-vit" if trunk in TRUNKS else "other",
        trunk=trunk,
        layers=layers,
        width=width,
        heads=heads,
        patch_size=patch_size,
        image_size=image.get("image_size", 224),
        joint_width=content["embed_dim"],
        text_layers=None if hugging_face else text.get("layers", 12),
        text_width=None if hugging_face else text.get("width", 512),
        context_length=None if hugging_face else text.get("context_length", 77),
        pooling=_pooling(image, own),
        text_pooling="hf" if hugging_face else "last" if text.get("embed_cls") else text.get("pool_type", "argmax"),
        causal=not hugging_face and not text.get("no_causal_mask", False),
        captions="multimodal_cfg" in content,
        quick_gelu=content.get("quick_gelu", False),
    )


def unsupported(model: str) -> str:
    """Return why kanoclip cannot use a model, in a few words; "" if it can.

    Raises:
        InputError: open_clip has no such model.
    """
    known = describe(model)
    if known.captions:
        return "it is made to write captions, and its image vector is not that of a class token"
    if known.pooling in ("map", "attention"):
        return "its image vector comes from attention pooling, not from a class token"
    if known.pooling == "avg" and known.kind == "openclip-vit":
        return "its image vector is the mean of the patches, not a class token"
    if known.kind == "other":
        return f"its image tower is {known.trunk or 'a ResNet'}, not a plain ViT with a class token"
    if known.text_pooling == "hf":
        return "its text tower comes from Hugging Face, and learned prompts need one of open_clip"
    if known.text_pooling != "argmax":
        return f"its text vector is that of the token '{known.text_pooling}', not of CLIP's end-of-text token"
    return ""


def supported(model: str) -> Description:
    """Return the shape of a model that kanoclip can use.

    Raises:
        InputError: there is no such model, or it cannot be used.
    """
    reason = unsupported(model)
    if reason:
        raise InputError(
            f"backbone {model}: expected a ViT with a class token and CLIP's text tower, but {reason}; choose a ViT of "
            "`kanoclip list backbones`"
        )
    return describe(model)


def _image_shape(image: dict[str, Any], trunk: str, own: bool) -> tuple[int | None, int | None, int | None, int | None]:
    """Return layers, width, heads and patch size."""
    if not own:
        return TRUNKS.get(trunk, (None, None, None, None))
    width = image.get("width", 768)
    return image.get("layers", 12), width, width // image.get("head_width", 64), image.get("patch_size", 16)


def _pooling(image: dict[str, Any], own: bool) -> str:
    if not own:
        pooling = str(image.get("timm_pool", "avg"))
        return "tok" if pooling == "token" else pooling
    return "attention" if image.get("attentional_pool") else str(image.get("pool_type", "tok"))


@cache
def _files() -> dict[str, Path]:
    """Return the description of every model by name; ours replace open_clip's of the same name."""
    found = importlib.util.find_spec("open_clip")  # finds the folder without running its code
    if found is None or found.origin is None:
        raise InputError("open_clip is not installed; run `pip install open_clip_torch`")
    paths = [*(Path(found.origin).parent / "model_configs").glob("*.json"), *EMBEDDED.glob("*.json")]
    return {path.stem: path for path in paths if json.loads(path.read_text(encoding="utf-8")).keys() >= PARTS}


def models_tables() -> tuple[str, str]:
    """Return the tables of docs/backbones.md in Markdown: usable models, and why others cannot be used."""
    usable = [
        "| model | blocks x width | patch | trained at | text blocks x width |",
        "| --- | --- | --- | --- | --- |",
    ]
    for known in map(describe, model_names()):
        usable.append(
            f"| `{known.name}` | {known.layers} x {known.width} | {known.patch_size} | {known.image_size} | "
            f"{known.text_layers} x {known.text_width} |"
        )
    refused: dict[str, list[str]] = {}
    for name in sorted(_files()):
        if reason := unsupported(name):
            refused.setdefault(reason, []).append(f"`{name}`")
    others = ["| why not | models |", "| --- | --- |"]
    others += [f"| {reason} | {', '.join(names)} |" for reason, names in sorted(refused.items())]
    return "\n".join(usable), "\n".join(others)
