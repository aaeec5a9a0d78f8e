"""Prompts that others trained: files of AnomalyCLIP's code, and of Crane's, which grew from it, as our AnomalyCLIP.

Such a file is a pickle with the state of a `prompt_learner`. Only tensors are read from it, never code. Crane learned
its prompts with another attention and pooling of the image; here they meet AnomalyCLIP's.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kanoclip.backbones.clip import Backbone
from kanoclip.config import parse
from kanoclip.methods.anomalyclip import NOUN, WORDS, AnomalyCLIP, AnomalyCLIPOptions
from kanoclip.prompts.learned import prompt_text
from kanoclip.types import InputError

DEEP = "compound_prompts_text"


def import_prompts(path: Path, backbone: Backbone, seed: int) -> AnomalyCLIP:
    """Build AnomalyCLIP with learned prompts from a file.

    Args:
        path: a file written by torch.save: {"prompt_learner": {"ctx_pos": (1, 1, E, D), "ctx_neg": the same,
            "compound_prompts_text.0": (M, D), "compound_prompts_text.1": the same, ...}}. What else its authors keep
            there is not used; the tokens of the prompts are compared with ours if they are there.
        backbone: D is the width of its text tower.
        seed: for the record.

    Raises:
        InputError: the file holds code, is damaged or of another kind; an entry is missing or does not fit.
    """
    state = _prompt_learner(path)
    width = backbone.text_width
    normal = _entry(path, state, "ctx_pos", (1, 1, None, width))  # (1, 1, E, D)
    abnormal = _entry(path, state, "ctx_neg", tuple(normal.shape))
    count = sum(re.fullmatch(rf"{DEEP}\.\d+", name) is not None for name in state)
    first = [_entry(path, state, f"{DEEP}.0", (None, width))] if count else []
    deep = first + [_entry(path, state, f"{DEEP}.{number}", tuple(first[0].shape)) for number in range(1, count)]
    length = normal.shape[2]
    for name, (word,) in zip(("tokenized_prompts_pos", "tokenized_prompts_neg"), WORDS, strict=True):
        _check_tokens(path, state.get(name), prompt_text(length, word, NOUN), backbone)
    shape = {"prompt_length": length, "deep_length": len(deep[0]) if deep else 1, "deep_depth": 1 + count}
    method = AnomalyCLIP(backbone, parse(AnomalyCLIPOptions, shape, str(path)), seed).eval()
    layers = torch.stack(deep) if deep else torch.empty(0, 1, width)  # (J - 1, M, D)
    method.prompts.load_state_dict({"context": torch.cat([normal[0], abnormal[0]]), "deep.layers": layers})
    return method


def _prompt_learner(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the bytes lead it to
        raise InputError(
            f"{path}: expected a file of torch.save with tensors only, found code, another kind of file or a damaged "
            "one; nothing in it was run"
        ) from error
    state = content.get("prompt_learner") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        found = f"the entries {list(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise InputError(f"{path}: expected an entry prompt_learner that holds a state, found {found}")
    return state


def _entry(path: Path, state: dict[str, Any], name: str, shape: tuple[int | None, ...]) -> Tensor:
    """A tensor of the state in fp32; None in its shape stands for any length."""
    tensor = state.get(name)
    found = tuple(tensor.shape) if isinstance(tensor, Tensor) else None
    if found is None or len(found) != len(shape) or any(w not in (None, f) for w, f in zip(shape, found, strict=True)):
        expected = str(shape).replace("None", "any")
        raise InputError(
            f"{path}: {name}: expected shape {expected}, its last the width of the text tower, found "
            f"{found or 'none'}; name the backbone that the prompts were trained with"
        )
    assert isinstance(tensor, Tensor)
    if not tensor.is_floating_point() or not tensor.isfinite().all():
        raise InputError(f"{path}: {name}: expected finite floating-point numbers, found others")
    return tensor.float()


def _check_tokens(path: Path, tokens: Any, text: str, backbone: Backbone) -> None:
    """Refuse prompts that were learned in front of other words."""
    if isinstance(tokens, Tensor) and tokens.flatten().tolist() != backbone.tokenize([text])[0].tolist():
        raise InputError(f"{path}: expected prompts of the form '{text}', found those of another text")
