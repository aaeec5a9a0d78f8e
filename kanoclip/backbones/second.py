"""Build a second tower, a frozen ViT of timm with its weights, from its configuration."""

import sys
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import hf_hub_download

from kanoclip.backbones.timm import TimmTower, unsupported_trunk
from kanoclip.config import TowerConfig
from kanoclip.files import remembered_sha256
from kanoclip.naming import printable
from kanoclip.types import InputError, unknown_name

RANDOM = "random:"


def tower_identity(name: str, config: TowerConfig) -> str:
    """Return a string that identifies the weights, without building the model.

    Raises:
        InputError: an unknown model, or weights that are neither published, a file nor random.
    """
    _check_model(name, config)
    if config.weights.startswith(RANDOM):
        return f"random:{_seed(name, config)}, torch {torch.__version__}, timm {timm.__version__}"
    return remembered_sha256(_file(name, config))


def load_tower(name: str, config: TowerConfig, image_size: int) -> TimmTower:
    """Build a frozen tower.

    Args:
        name: name of the tower, as in `Tap.tower`.
        config: configuration of the tower.
        image_size: image size of the backbone, used if the tower's configuration has none.

    Raises:
        InputError: the model is unknown or has no class token, its weights do not match, the image size is not a
            multiple of the patch size, or vv_start is outside the tower.
    """
    _check_model(name, config)
    trunk = _with_weights(name, config, config.image_size or image_size).eval().requires_grad_(False)
    statistics = trunk.pretrained_cfg
    tower = TimmTower(trunk, name, tuple(statistics["mean"]), tuple(statistics["std"]))
    tower.vv_start = config.vv_start or max(1, round(tower.layers / 4))
    if tower.vv_start > tower.layers:
        raise InputError(f"tower {name}: vv_start {tower.vv_start} must be at most {tower.layers}, its blocks")
    return tower


def _check_model(name: str, config: TowerConfig) -> None:
    if not timm.is_model(config.model):
        raise unknown_name(f"model of tower {name}:", config.model, timm.list_models("vit*") + timm.list_models("eva*"))


def _with_weights(name: str, config: TowerConfig, side: int) -> Any:
    random = config.weights.startswith(RANDOM)
    trunk: Any
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(name, config) if random else 0)
        try:
            trunk = timm.create_model(config.model, num_classes=0, img_size=side)
        except TypeError:  # models without an image size are not ViTs
            trunk = timm.create_model(config.model, num_classes=0)
    reason = unsupported_trunk(trunk)
    if reason:
        raise InputError(
            f"tower {name}: expected a ViT with a class token, but {config.model} cannot be used: {reason}"
        )
    patch = int(trunk.patch_embed.feat_ratio())
    if side % patch:
        raise InputError(
            f"tower {name}: image_size {side} is not a multiple of {patch}, the patch size of {config.model}; set "
            f"towers.{name}.image_size"
        )
    if not random:
        _load(name, trunk, _file(name, config))
    return trunk


def _load(name: str, trunk: Any, path: Path) -> None:
    """Load a checkpoint of timm's or of the model's authors; timm translates names and resizes positions."""
    try:
        state = sys.modules[type(trunk).__module__].checkpoint_filter_fn(timm.models.load_state_dict(str(path)), trunk)
        missing = trunk.load_state_dict(state, strict=False).missing_keys
    except Exception as error:  # checkpoint readers may raise any exception on damaged bytes
        said = printable(f"{type(error).__name__}: {error}")
        raise InputError(
            f"tower {name}: cannot load {path} ({said}); expected a whole checkpoint of the model"
        ) from error
    if missing:
        raise InputError(f"tower {name}: {path} holds no {missing[0]}; expected weights of the model, from timm")


def _file(name: str, config: TowerConfig) -> Path:
    """Return the file of the weights, after downloading it if necessary."""
    if Path(config.weights).is_file():
        return Path(config.weights)
    published = timm.get_pretrained_cfg(config.model)
    if config.weights != "pretrained" or published is None or not published.hf_hub_id:
        hub = "" if published is None or not published.hf_hub_id else ", nor 'pretrained'"
        raise InputError(
            f"tower {name}: weights '{config.weights}' of {config.model} are neither a file nor random:SEED{hub}"
        )
    try:
        return Path(hf_hub_download(published.hf_hub_id, published.hf_hub_filename or "model.safetensors"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"tower {name}: cannot download {published.hf_hub_id} from the Hugging Face hub "
            f"({str(error).splitlines()[0]}); download it elsewhere and name the file in towers.{name}.weights"
        ) from error


def _seed(name: str, config: TowerConfig) -> int:
    seed = config.weights.removeprefix(RANDOM)
    if not seed.isdecimal():
        raise InputError(f"tower {name}: weights '{config.weights}': expected a whole number, such as random:0")
    return int(seed)
