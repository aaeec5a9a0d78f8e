"""What the commands share: options with their help, and how their values are read."""

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
    "Device",
    "Index",
    "Out",
    "Seed",
    "Settings",
    "Threads",
    "Workers",
    "all_existing",
    "choose_device",
    "existing",
    "input_file",
    "named",
    "parse_json",
    "parse_options",
    "parse_pairs",
]


def existing(path: Path | None) -> Path | None:
    """An input file, or one clear line."""
    if path is not None and not path.is_file():
        raise InputError(f"{path}: expected a file, found none; run the stage that makes it")
    return path


def input_file(description: str) -> Any:
    """An option that names a file which must be there."""
    return typer.Option(help=description, callback=existing)


def all_existing(paths: list[Path] | None) -> list[Path] | None:
    """Input files, each there."""
    for path in paths or []:
        existing(path)
    return paths


Out = Annotated[Path, typer.Option(help="The file to write.")]
Index = Annotated[Path, input_file("index.csv of the dataset.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option; may be repeated.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto takes a free GPU if there is one.")]
Threads = Annotated[int, typer.Option(help="CPU threads.", min=1)]
Workers = Annotated[int, typer.Option(help="Threads that load images.", min=1)]
Seed = Annotated[int, typer.Option(help="Makes every random choice.", min=0, max=HIGHEST_SEED)]


def parse_pairs(items: Sequence[str] | None) -> list[tuple[str, str]]:
    """KEY=VALUE items; a key may come again."""
    pairs = [item.partition("=") for item in items or []]
    for key, equals, value in pairs:
        if not (key and equals):
            raise InputError(f"expected KEY=VALUE, found '{key}{equals}{value}'")
    return [(key, value) for key, _, value in pairs]


def parse_json(text: str, where: str) -> dict[str, Any]:
    """A JSON object given as an option."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: expected a JSON object, found '{printable(text)}' ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found '{printable(text)}'")
    return value


def parse_options(items: Sequence[str] | None) -> dict[str, Any]:
    """KEY=VALUE items with the values read as YAML.

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
    """A name that the user gives to a dataset, or one clear line."""
    try:
        return check_name(name)
    except ValueError as error:
        raise InputError(f"{printable(repr(name))}: {error}") from error
