"""Translate the checkpoint that AdaCLIP's authors released to the parameters of our AdaCLIP."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kanoclip.types import InputError

PREFIX = "clip_model."  # the authors save the state of a trainer that holds the model
WHERE = "AdaCLIP's released checkpoint"
STACKED = {  # lists of tensors that are a single tensor here, and how to join them
    "vision.static": ("visual_prompter.static_prompts.{}", torch.stack),
    "vision.dynamic.weight": ("dynamic_visual_prompt_generator.head.{}.weight", torch.cat),
    "vision.dynamic.bias": ("dynamic_visual_prompt_generator.head.{}.bias", torch.cat),
    "language.static": ("text_prompter.static_prompts.{}", torch.stack),
    "language.dynamic.weight": ("dynamic_text_prompt_generator.head.{}.weight", torch.cat),
    "language.dynamic.bias": ("dynamic_text_prompt_generator.head.{}.bias", torch.cat),
}
LAYERS = "patch_token_layer.head"
CLASS_LAYER = "cls_token_layer.head.0"


def learned_from_released(files: Sequence[Any]) -> dict[str, Tensor]:
    """Return the learned parameters under our names, in fp32; see `AdaClip.from_published`.

    Args:
        files: one, a mapping of names to tensors: `clip_model.text_prompter.static_prompts.0` (5, 768) and so on.

    Raises:
        InputError: the object has another type, or a tensor is missing, has an unexpected shape or is not finite.
    """
    if len(files) != 1 or not isinstance(files[0], Mapping):
        kinds = ", ".join(type(file).__name__ for file in files) or "none"
        raise InputError(f"{WHERE}: expected one file with a mapping of names to tensors, found {kinds}")
    state = {str(name).removeprefix(PREFIX): value for name, value in files[0].items()}
    found = {ours: join(_list(state, theirs)) for ours, (theirs, join) in STACKED.items()}
    for part in ("weight", "bias"):
        for number, value in enumerate(_list(state, f"{LAYERS}.{{}}.{part}")):
            found[f"patch_layers.{number}.{part}"] = value
        found[f"class_layer.{part}"] = _tensor(state, f"{CLASS_LAYER}.{part}")
    return found


def _list(state: Mapping[str, Any], pattern: str) -> list[Tensor]:
    """Return the tensors of a list, which has at least one, all with the same shape."""
    numbered = re.compile(re.escape(pattern).replace(r"\{\}", r"\d+"))
    count = sum(numbered.fullmatch(name) is not None for name in state)
    tensors = [_tensor(state, pattern.format(number)) for number in range(max(1, count))]
    for number, tensor in enumerate(tensors):
        if tensor.shape != tensors[0].shape:
            raise InputError(
                f"{WHERE}: {pattern.format(number)}: expected shape {tuple(tensors[0].shape)}, as the first of its "
                f"list, found {tuple(tensor.shape)}"
            )
    return tensors


def _tensor(state: Mapping[str, Any], name: str) -> Tensor:
    value = state.get(name)
    if not isinstance(value, Tensor):
        kind = "nothing" if value is None else type(value).__name__
        raise InputError(f"{WHERE}: {name}: expected a tensor, found {kind}; is it a checkpoint of AdaCLIP?")
    if not value.is_floating_point() or not value.isfinite().all():
        raise InputError(f"{WHERE}: {name}: expected finite floating-point numbers, found others")
    return value.detach().float()
