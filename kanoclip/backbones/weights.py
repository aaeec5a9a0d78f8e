"""Build an open_clip model from a backbone's configuration, with its weights, activation and position table."""

from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
import torch.nn.functional as F
from open_clip.pretrained import download_pretrained
from open_clip.timm_model import TimmModel
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file
from torch import Tensor, nn

from kanoclip.backbones.descriptions import EMBEDDED, describe, supported
from kanoclip.backbones.openclip import OpenClipTower
from kanoclip.backbones.second import tower_identity
from kanoclip.backbones.stem import add_stem
from kanoclip.backbones.stem_shape import WITH_STEM
from kanoclip.backbones.taps import CLIP
from kanoclip.backbones.timm import TimmTower, unsupported_trunk
from kanoclip.backbones.tower import Tower
from kanoclip.config import BackboneConfig
from kanoclip.files import remembered_sha256, sha256
from kanoclip.naming import printable
from kanoclip.types import InputError


def weights_identity(config: BackboneConfig) -> str:
    """Return a string that identifies the weights of all towers, without building the model.

    For each tower it is the SHA-256 of the weights file (remembered by path, size and modification time, so that jobs
    need not read a large file again), or for random weights the seed and the versions of torch and the model library.

    Raises:
        InputError: the weights are neither a tag, a file, embedded nor random.
    """
    second = [f"{name}: {tower_identity(name, tower)}" for name, tower in sorted(config.towers.items())]
    return "; ".join([_own_identity(config), *second])


def _own_identity(config: BackboneConfig) -> str:
    if config.weights.startswith("random:"):
        return f"random:{_seed(config.weights)}, torch {torch.__version__}, open_clip {open_clip.__version__}"
    if config.weights == "embedded":
        return sha256(_embedded_file(config.model))
    if Path(config.weights).is_file():
        return remembered_sha256(Path(config.weights))
    _check_tag(config)
    return remembered_sha256(Path(download_pretrained(open_clip.get_pretrained_cfg(config.model, config.weights))))


def register_embedded() -> None:
    """Register the models shipped with kanoclip in open_clip."""
    open_clip.add_model_config(EMBEDDED)


def create_open_clip(config: BackboneConfig) -> Any:
    """Build the model, load its weights, check its activation, resize its position table, set its normalisation.

    Raises:
        InputError: the model or tag is unknown, the file is missing or does not match, the weights were trained with
            another activation, or the image or text tower cannot be used (see docs/backbones.md).
    """
    register_embedded()
    supported(config.model)
    clip = _with_weights(config)
    visual = clip.visual
    if isinstance(visual, TimmModel) and unsupported_trunk(visual.trunk):
        raise InputError(
            f"backbone {config.model}: its image tower cannot be used: {unsupported_trunk(visual.trunk)}; this timm "
            f"({timm.__version__}) builds it in a way that kanoclip does not know"
        )
    _check_activation(clip, config)
    _resize_positions(clip.visual, config)
    if config.normalisation == "none":
        visual.image_mean, visual.image_std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if config.model in WITH_STEM:
            visual.conv1.pixel_mean, visual.conv1.pixel_std = visual.image_mean, visual.image_std
    return clip


def image_tower(visual: Any) -> Tower:
    """Return CLIP's image tower, of open_clip or of timm."""
    if isinstance(visual, TimmModel):
        return TimmTower(visual.trunk, CLIP, tuple(visual.image_mean), tuple(visual.image_std))
    return OpenClipTower(visual)


def _with_weights(config: BackboneConfig) -> Any:
    model, weights = config.model, config.weights
    insists = {"force_quick_gelu": True} if config.activation == "quick_gelu" else {}
    if weights.startswith("random:"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(weights))
            return _untrained(model, insists)
    if weights == "embedded":
        clip = _untrained(model, insists)
        clip.load_state_dict(_embedded_state(model, clip))
        return clip
    _check_tag(config)
    try:
        if model in WITH_STEM:
            clip = _untrained(model, insists)
            open_clip.load_checkpoint(clip, weights)
            return clip
        return open_clip.create_model(model, pretrained=weights, **insists)
    except Exception as error:  # checkpoint readers may raise any exception on damaged bytes
        said = printable(f"{type(error).__name__}: {error}")
        raise InputError(
            f"backbone {model}: cannot load weights '{weights}' ({said}); expected a whole checkpoint of this model"
        ) from error


def _untrained(model: str, insists: dict[str, bool]) -> Any:
    """Build a model with random weights and its stem.

    It is built on torch's default device, so that the meta device can build a large model at once and without memory.
    """
    clip = open_clip.create_model(model, pretrained=None, device=torch.get_default_device(), **insists)
    return add_stem(clip, model)


def _check_tag(config: BackboneConfig) -> None:
    known = open_clip.list_pretrained_tags_by_model(config.model)
    if config.weights not in known and not Path(config.weights).is_file():
        raise InputError(
            f"backbone {config.model}: weights '{config.weights}' are neither a file nor a tag of the model; its tags: "
            f"{', '.join(known) or 'none'}"
        )


def _seed(weights: str) -> int:
    seed = weights.removeprefix("random:")
    if not seed.isdigit():
        raise InputError(f"backbone weights '{weights}': expected random: and a whole number, such as random:0")
    return int(seed)


def _embedded_state(model: str, clip: Any) -> dict[str, Tensor]:
    """Return the shipped weights in fp32, the token table expanded to the full vocabulary.

    Only rows of tokens that occurred in training are stored; the last stored row stands for all others.
    """
    path = _embedded_file(model)
    expected, found = path.with_suffix(".sha256").read_text().split()[0], sha256(path)
    if found != expected:
        raise InputError(f"{path}: expected sha256 {expected}, found {found}; reinstall kanoclip")
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_file(path).items()}
    stored, ids = state["token_embedding.weight"], state.pop("token_ids")
    table = stored[-1].repeat(clip.token_embedding.num_embeddings, 1)
    table[ids] = stored[:-1]
    return state | {"token_embedding.weight": table}


def _embedded_file(model: str) -> Path:
    path = EMBEDDED / f"{model}.safetensors"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in EMBEDDED.glob("*.safetensors")))
        raise InputError(f"backbone {model}: no weights are shipped with kanoclip under this name; shipped: {shipped}")
    return path


def _check_activation(clip: nn.Module, config: BackboneConfig) -> None:
    """Refuse weights that were trained with another activation; open_clip only warns."""
    found = "quick_gelu" if any(isinstance(module, QuickGELU) for module in clip.modules()) else "gelu"
    if config.activation != "auto":
        expected: str = config.activation
    else:
        known = open_clip.get_pretrained_cfg(config.model, config.weights)
        expected = ("quick_gelu" if known.get("quick_gelu") else "gelu") if known else found
    if found != expected:
        other = config.model.removesuffix("-quickgelu") if expected == "gelu" else f"{config.model}-quickgelu"
        raise InputError(
            f"backbone {config.model}: weights '{config.weights}' expect {expected}, the model has {found}; "
            f"use the model {other}, or set activation: {found} to insist"
        )


def _resize_positions(visual: Any, config: BackboneConfig) -> None:
    """Resize the position table of the patches to the configured image size, in place."""
    patch = describe(config.model).patch_size
    assert patch is not None
    if config.image_size % patch and config.partial_patches == "refuse":
        raise InputError(
            f"backbone {config.model}: image_size {config.image_size} is not a multiple of its patch size {patch}; "
            "choose another, or set partial_patches: cut"
        )
    if isinstance(visual, TimmModel):
        _resize_timm(visual, config)
        return
    new = (config.image_size // patch, config.image_size // patch)
    old = tuple(visual.grid_size)
    if new == old:
        return
    table = visual.positional_embedding.detach()  # (1 + P, W)
    patches = table[1:].T.reshape(1, -1, *old)
    mode, antialias = config.position_resize.split("_")[0], config.position_resize.endswith("_antialias")
    patches = F.interpolate(patches, size=new, mode=mode, antialias=antialias, align_corners=False)
    visual.positional_embedding = nn.Parameter(torch.cat([table[:1], patches.flatten(2)[0].T]))
    visual.grid_size, visual.image_size = new, (config.image_size, config.image_size)


def _resize_timm(visual: TimmModel, config: BackboneConfig) -> None:
    """Resize the position tables of a timm trunk in place; timm supports only one interpolation."""
    if config.position_resize != "bicubic_antialias":
        raise InputError(
            f"backbone {config.model}: position_resize {config.position_resize} is not possible with an image tower of "
            "timm; set bicubic_antialias"
        )
    size = (config.image_size, config.image_size)
    if visual.trunk.patch_embed.img_size != size:
        visual.set_input_size(size)
