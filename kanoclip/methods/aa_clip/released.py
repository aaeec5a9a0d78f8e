"""Translate checkpoints of the authors' code to our parameter names."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kanoclip.types import InputError

KINDS = ("text_adapter", "image_adapter")
HEADS = (
    (r"layer_adapters\.(\d+)\.fc\.0\.weight", r"image.adapters.layers.\1.weight"),
    (r"seg_proj\.(\d+)\.fc\.weight", r"image.segmentation.\1.weight"),
    (r"det_proj\.fc\.weight", r"image.detection.weight"),
)


def translated(files: Sequence[Any]) -> dict[str, Tensor]:
    """Return the parameters of the two files of a training under our names, in fp32.

    Args:
        files: text_adapter.pth and image_adapter_N.pth as torch.load returns them, in this order:
            {"text_adapter": {"0.fc.0.weight": (D, D), ..., "3.fc.0.weight": (C, D)}} and
            {"image_adapter": {"layer_adapters.0.fc.0.weight": (W, W), ..., "seg_proj.0.fc.weight": (C, W), ...,
            "det_proj.fc.weight": (C, W)}}. Other entries are ignored.

    Raises:
        InputError: the files or a name are not as expected, or heads have an activation (option --relu of the code).
    """
    if len(files) != len(KINDS):
        raise InputError(f"expected two files, text_adapter.pth and image_adapter_N.pth, found {len(files)}")
    text, image = (_state(file, kind) for file, kind in zip(files, KINDS, strict=True))
    return {name: tensor.float() for name, tensor in {**_text(text), **_image(image)}.items()}


def _state(file: Any, kind: str) -> Mapping[str, Tensor]:
    state = file.get(kind) if isinstance(file, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()) or not state:
        found = f"the entries {', '.join(map(str, file))}" if isinstance(file, Mapping) else f"a {type(file).__name__}"
        raise InputError(f"expected an entry {kind} with tensors, found {found}; give {kind}.pth in its place")
    return state


def _text(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the text adapters: the last layer is the projection, the ones before it are adapters."""
    found = {}
    for name, tensor in state.items():
        layer = re.fullmatch(r"(\d+)\.fc\.0\.weight", name)
        if layer is None:
            raise InputError(f"text_adapter: expected names such as 0.fc.0.weight, found {name}")
        last = int(layer[1]) == len(state) - 1
        found["text.projection.weight" if last else f"text.adapters.layers.{layer[1]}.weight"] = tensor
    return found


def _image(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, tensor in state.items():
        if re.fullmatch(r"(seg_proj\.\d+|det_proj)\.fc\.0\.weight", name):
            raise InputError(f"image_adapter: {name}: heads with an activation (--relu) are not supported")
        ours = next((re.sub(old, new, name) for old, new in HEADS if re.fullmatch(old, name)), None)
        if ours is None:
            raise InputError(f"image_adapter: expected names such as seg_proj.0.fc.weight, found {name}")
        found[ours] = tensor
    return found
