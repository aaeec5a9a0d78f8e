"""Checkpoints: the learned parameters as safetensors, with everything they depend on in the header."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from kanoclip import __version__
from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.provenance import backbone_difference
from kanoclip.config import parse
from kanoclip.files import whole
from kanoclip.methods.base import Method, method_class
from kanoclip.types import InputError

FORMAT = 2


def save_checkpoint(path: Path, method: Method[Any], record: dict[str, Any]) -> None:
    """Write the learned parameters, whole or not at all. Equal trainings give equal bytes.

    Args:
        path: the file.
        method: a trained method.
        record: method, options, auxiliary, seed and whatever else is worth keeping; the configuration and provenance
            of the backbone are added.
    """
    config = method.backbone.config.model_dump(mode="json")
    header = {**record, **method.backbone.provenance(), "config": config, "version": __version__, "format": FORMAT}
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in method.learned().items()}
    with whole(path) as temporary:
        # one entry only: safetensors writes several in no fixed order, and equal trainings shall give equal files
        save_file(tensors, temporary, metadata={"kanoclip": json.dumps(header, sort_keys=True)})


def read_record(path: Path) -> dict[str, Any]:
    """Return the header of a checkpoint.

    Raises:
        InputError: it is not a kanoclip checkpoint.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint, found no file; run kanoclip train")
    try:
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["kanoclip"])
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path}: expected a checkpoint written by kanoclip train, found another kind of file"
        ) from error


def load_method(path: Path, backbone: Backbone, expected: str) -> Method[Any]:
    """Build a method from its checkpoint.

    Args:
        path: the checkpoint.
        backbone: the one in use.
        expected: name of the registered method that it should hold.

    Raises:
        InputError: another method, another backbone, other shapes.
    """
    record = read_record(path)
    if record["method"] != expected:
        raise InputError(f"{path}: expected a checkpoint of {expected}, found one of {record['method']}")
    difference = backbone_difference(backbone.provenance(), record)
    if difference:
        raise InputError(f"{path}: trained on another backbone than the one in use: {difference}; train again")
    kind = method_class(expected)
    method = kind(backbone, parse(kind.Options, record["options"], str(path)), record["seed"]).to(backbone.device)
    _fill(method, path)
    return method.eval()


def _fill(method: Method[Any], path: Path) -> None:
    with safe_open(path, "pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a mapping
        expected = {name: tuple(parameter.shape) for name, parameter in method.learned().items()}
        if found != expected:
            name = next(name for name in sorted({**found, **expected}) if found.get(name) != expected.get(name))
            raise InputError(
                f"{path}: parameter {name}: expected {expected.get(name, 'none')}, found {found.get(name, 'none')}; "
                "the checkpoint is of another version or shape, train again"
            )
        for name, parameter in method.learned().items():
            parameter.data.copy_(file.get_tensor(name))
