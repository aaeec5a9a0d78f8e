"""Fetch weights that others trained, read them without running code, and write them as a kanoclip checkpoint."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kanoclip.backbones.clip import load_backbone
from kanoclip.checkpoints import save_checkpoint
from kanoclip.config import BackboneConfig, parse
from kanoclip.datasets.download import Interrupted, Refused, fetch_from
from kanoclip.files import sha256, write_json
from kanoclip.methods import Method, method_class
from kanoclip.published_weights import ReleasedFile, files_trained_on, load_release, release_names
from kanoclip.types import InputError, logger

SOURCE = "source.json"  # beside fetched files: their origin
PLAIN = (str, int, float, bool, type(None), Tensor)


def fetch_stage(name: str, auxiliary: str, resources: Path) -> list[Path]:
    """Fetch and verify the weights that a method's authors trained on a dataset, unless they exist.

    The files lie in resources/weights/<method>/<auxiliary>/, fetched or placed there by hand, and source.json, written
    last.

    Raises:
        InputError: nothing is published for the dataset, no URL answers, or a file is not the published one.
    """
    folder = resources / "weights" / name / auxiliary
    files = files_trained_on(name, auxiliary)
    release = load_release(name)
    for file in files:
        _fetch(file, folder / file.name, release.homepage)
    found = {
        file.name: {"sha256": sha256(folder / file.name), "verified": bool(file.sha256 or file.git_blob)}
        | {"urls": list(file.urls)}
        for file in files
    }
    about = {"method": name, "auxiliary": auxiliary, "homepage": release.homepage, "licence": release.licence}
    write_json(folder / SOURCE, {**about, "files": found})
    return [folder / file.name for file in files]


def _fetch(file: ReleasedFile, path: Path, homepage: str) -> None:
    if path.is_file():
        file.verify(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in file.urls:
        try:
            fetch_from(url, path)
        except (Interrupted, Refused) as reason:
            logger.warning("%s: %s", url, reason)
            reasons.append(f"{url}: {reason}")
            continue
        try:
            file.verify(path)
        except InputError as error:
            path.unlink()
            raise InputError(f"{error}; it was deleted") from None
        return
    raise InputError(f"{path}: no address has it ({'; '.join(reasons)}); get it from {homepage} and put it there")


def import_stage(
    name: str,
    files: Sequence[Path],
    out: Path,
    auxiliary: str,
    options: Mapping[str, Any],
    backbone: BackboneConfig,
    device: str,
    seed: int = 0,
) -> None:
    """Write a checkpoint of a method from files that its authors' code wrote.

    Args:
        name: the registered method.
        files: in the order that the method expects.
        out: the checkpoint.
        auxiliary: the dataset that it was trained on, recorded, and used to refuse scoring the same dataset.
        options: options of the method.
        backbone: the backbone it was trained with.
        device: where to build it.
        seed: recorded in the checkpoint.

    Raises:
        InputError: a file contains code, is damaged or has another layout, or does not match options and backbone.
    """
    kind = method_class(name)
    settings = parse(kind.Options, options, f"options of {name}")
    where = ", ".join(map(str, files))
    learned = translate(kind, [load_plain(path) for path in files], where)
    method = kind(load_backbone(backbone, device), settings, seed)
    fill(method, learned, where)
    record = {"method": name, "options": settings.model_dump(mode="json"), "auxiliary": auxiliary, "seed": seed}
    save_checkpoint(out, method, {**record, "imported": _origin(name, files)})


def load_plain(path: Path) -> Any:
    """Read a file of torch.save that contains only containers, numbers and tensors; refuse others.

    Raises:
        InputError: it contains something else or is damaged; none of its code was run.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch may raise any exception on damaged bytes
        raise InputError(
            f"{path}: expected a file of torch.save with tensors only, found code, another kind of file or a damaged "
            "one; nothing in it was run"
        ) from error
    other = _not_plain(content)
    if other is not None:
        raise InputError(f"{path}: expected tensors, numbers and text only, found {other}")
    return content


def _not_plain(value: Any) -> str | None:
    """Return the type of an object in a value that is neither a container nor plain data; None if there is none."""
    if isinstance(value, Mapping):
        inside: list[Any] = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
        inside = list(value)
    else:
        return None if isinstance(value, PLAIN) else type(value).__name__
    return next((found for found in map(_not_plain, inside) if found is not None), None)


def translate(kind: type[Method[Any]], contents: Sequence[Any], where: str) -> dict[str, Tensor]:
    """Translate the content of published files to the learned parameters under our names.

    Raises:
        InputError: the files have another layout.
    """
    try:
        return kind.from_published(contents)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"{where}: expected the layout of its authors, found another ({error!r})") from error


def fill(method: Method[Any], tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into the learned parameters of a method.

    Raises:
        InputError: names or shapes differ, or a tensor has values that are not finite.
    """
    learned = method.learned()
    expected = {name: tuple(value.shape) for name, value in learned.items() if value.numel()}
    found = {name: tuple(value.shape) for name, value in tensors.items() if value.numel()}
    for name in sorted({**expected, **found}):
        if expected.get(name) != found.get(name):
            raise InputError(
                f"{where}: parameter {name}: expected {expected.get(name, 'none')}, found {found.get(name, 'none')}; "
                "name the backbone and the options that it was trained with"
            )
        if not tensors[name].is_floating_point() or not tensors[name].isfinite().all():
            raise InputError(f"{where}: parameter {name}: expected finite floating-point numbers, found others")
    with torch.no_grad():
        for name in expected:
            learned[name].copy_(tensors[name])


def _origin(name: str, files: Sequence[Path]) -> dict[str, Any]:
    """Return the origin of files: their checksums, and the record made when they were fetched."""
    found: dict[str, Any] = {"files": {path.name: sha256(path) for path in files}}
    if name in release_names():
        release = load_release(name)
        found |= {"homepage": release.homepage, "licence": release.licence}
    source = files[0].with_name(SOURCE)
    if source.is_file():
        recorded = json.loads(source.read_text(encoding="utf-8")).get("files", {})
        urls = {path.name: recorded[path.name]["urls"] for path in files if path.name in recorded}
        found |= {"urls": urls} if urls else {}
    return found
