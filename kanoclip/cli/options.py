"""Options shared by several commands, and the parsers of their values."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from kanoclip.devices import choose_device
from kanoclip.naming import HIGHEST_SEED, check_name, printable
from kanoclip.types import InputError

__all__ = [
    "BackboneSettings",
    "BatchSize",
    "Device",
    "Index",
    "MethodSettings",
    "Out",
    "Seed",
    "Threads",
    "Workers",
    "all_existing",
    "choose_device",
    "existing",
    "input_file",
    "key_values",
    "named",
    "parse_json",
    "parse_options",
    "parse_pairs",
]


def existing(path: Path | None) -> Path | None:
    """Return the path of an input file.

    Raises:
        InputError: there is no such file.
    """
    if path is not None and not path.is_file():
        raise InputError(f"{path}: expected a file, found none; run the stage that makes it")
    return path


def all_existing(paths: list[Path] | None) -> list[Path] | None:
    """Return the paths of input files.

    Raises:
        InputError: one of them does not exist.
    """
    for path in paths or []:
        existing(path)
    return paths


def input_file(description: str) -> Any:
    """Return an option for the path of a file that must exist."""
    return typer.Option(help=description, callback=existing)


def key_values(flag: str, description: str) -> Any:
    """Return an option for KEY=VALUE pairs, which can be given several times."""
    return typer.Option(flag, metavar="KEY=VALUE", help=f"{description} Can be repeated.")


Out = Annotated[Path, typer.Option(help="File to write.")]
Index = Annotated[Path, input_file("The index.csv of the dataset.")]
MethodSettings = Annotated[
    list[str] | None, key_values("--set", "An option of the method; config/README.md lists them.")
]
BackboneSettings = Annotated[
    list[str] | None, key_values("--set", "A key of the backbone, such as model=ViT-L-14-336-quickgelu.")
]
BatchSize = Annotated[int, typer.Option(help="Images per forward pass.", min=1)]
Device = Annotated[
    str, typer.Option(help="Device: cpu, cuda, cuda:1 and so on; auto takes a free GPU if there is one.")
]
Threads = Annotated[int, typer.Option(help="Number of CPU threads.", min=1)]
Workers = Annotated[int, typer.Option(help="Number of threads that load images.", min=1)]
Seed = Annotated[int, typer.Option(help="Random seed.", min=0, max=HIGHEST_SEED)]


def parse_pairs(items: Sequence[str] | None) -> list[tuple[str, str]]:
    """Return the (key, value) pairs of KEY=VALUE items; keys can repeat.

    Raises:
        InputError: an item has no key or no equals sign.
    """
    pairs = [item.partition("=") for item in items or []]
    for key, equals, value in pairs:
        if not (key and equals):
            raise InputError(f"expected KEY=VALUE, found '{key}{equals}{value}'")
    return [(key, value) for key, _, value in pairs]


def parse_json(text: str, where: str) -> dict[str, Any]:
    """Return the JSON object in the value of an option.

    Args:
        text: the value.
        where: the name of the option, for messages.

    Raises:
        InputError: the value is not a JSON object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: expected a JSON object, found '{printable(text)}' ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found '{printable(text)}'")
    return value


def parse_options(items: Sequence[str] | None) -> dict[str, Any]:
    """Return KEY=VALUE items as a dictionary, with each value parsed as YAML.

    Raises:
        InputError: an item has no key, or its value is not YAML.
    """
    options: dict[str, Any] = {}
    for key, value in parse_pairs(items):
        try:
            options[key] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError(
                f"{printable(key)}: expected a value in YAML, found '{printable(value, 60)}' ({printable(str(error))})"
            ) from error
    return options


def named(name: str) -> str:
    """Check the name that a user gives to a dataset, and return it.

    Raises:
        InputError: the name cannot be used in paths and tables.
    """
    try:
        return check_name(name)
    except ValueError as error:
        raise InputError(f"{printable(repr(name))}: {error}") from error
