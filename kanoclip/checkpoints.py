"""Checkpoints: the learned parameters as safetensors, with everything they depend on in the header.

The header has a digest of itself and of the tensors, which is verified whenever a checkpoint is read, so that a flipped
bit is an error instead of a different score. Files of format 2, without a digest, can still be read.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kanoclip import __version__
from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.provenance import backbone_difference
from kanoclip.config import parse
from kanoclip.files import whole
from kanoclip.methods.base import Method, method_class
from kanoclip.types import InputError

FORMAT = 3
REMEDY = "train again"
READ = ("method", "options", "auxiliary", "seed")  # entries of the header that readers require


def save_checkpoint(path: Path, method: Method[Any], record: dict[str, Any]) -> None:
    """Write the learned parameters, whole or not at all. Equal trainings give equal bytes.

    Args:
        path: the file.
        method: a trained method.
        record: method, options, auxiliary, seed and further entries; the configuration and provenance of the backbone
            are added.
    """
    config = method.backbone.config.model_dump(mode="json")
    header = {**record, **method.backbone.provenance(), "config": config, "version": __version__, "format": FORMAT}
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in method.learned().items()}
    header["digest"] = _digest(header, tensors)
    with whole(path) as temporary:
        # a single entry: safetensors writes several in no fixed order, and equal trainings must give equal files
        save_file(tensors, temporary, metadata={"kanoclip": json.dumps(header, sort_keys=True)})


def read_record(path: Path) -> dict[str, Any]:
    """Return the header of a checkpoint.

    Raises:
        InputError: it is not a kanoclip checkpoint, or it is damaged.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the tensors of a checkpoint, both as they were written."""
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint, found no file; run kanoclip train")
    try:
        with safe_open(path, "pt") as file:
            record = json.loads(file.metadata()["kanoclip"])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}  # noqa: SIM118 - not a mapping
        known = all(name in record for name in READ) and isinstance(record["options"], dict)
        sealed = "digest" in record or record["format"] != 2
        whole = not sealed or record["digest"] == _digest(record, tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        raise InputError(
            f"{path}: expected a checkpoint written by kanoclip train, found another kind of file or a damaged one; "
            f"{REMEDY}"
        ) from error
    if not whole:
        raise InputError(f"{path}: damaged: its content is not what was written; {REMEDY}")
    if not known:
        raise InputError(f"{path}: expected the entries {', '.join(READ)} in its header, found others; {REMEDY}")
    return record, tensors


def _digest(header: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of a header without its digest, and of the tensors' names, types, shapes and values."""
    plain = {name: value for name, value in header.items() if name != "digest"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_method(path: Path, backbone: Backbone, expected: str) -> Method[Any]:
    """Build a method from its checkpoint.

    Args:
        path: the checkpoint.
        backbone: the one in use.
        expected: name of the registered method that it should hold.

    Raises:
        InputError: the method, the backbone or the shapes differ.
    """
    record, tensors = _read(path)
    if record["method"] != expected:
        raise InputError(f"{path}: expected a checkpoint of {expected}, found one of {record['method']}")
    difference = backbone_difference(backbone.provenance(), record)
    if difference:
        raise InputError(f"{path}: trained on another backbone than the one in use: {difference}; train again")
    kind = method_class(expected)
    method = kind(backbone, parse(kind.Options, record["options"], str(path)), record["seed"]).to(backbone.device)
    _fill(method, tensors, path)
    return method.eval()


def _fill(method: Method[Any], tensors: dict[str, Tensor], path: Path) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    expected = {name: tuple(parameter.shape) for name, parameter in method.learned().items()}
    if found != expected:
        name = next(name for name in sorted({**found, **expected}) if found.get(name) != expected.get(name))
        raise InputError(
            f"{path}: parameter {name}: expected {expected.get(name, 'none')}, found {found.get(name, 'none')}; "
            "the checkpoint is of another version or shape, train again"
        )
    for name, parameter in method.learned().items():
        parameter.data.copy_(tensors[name])
