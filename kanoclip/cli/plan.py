"""Command that estimates the resources of a run before it starts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from kanoclip.cli.options import key_values, parse_options
from kanoclip.types import InputError

DEFAULT = Path("config/config.yaml")
Configfile = Annotated[
    list[Path] | None,
    typer.Option(help=f"Configuration file. Can be repeated; files are merged as Snakemake does. Default: {DEFAULT}."),
]
Overrides = Annotated[list[str] | None, key_values("--config", "A key that overrides the configuration files.")]


def plan(
    configfile: Configfile = None,
    config: Overrides = None,
) -> None:
    """Estimate what a run needs: images, disk space, downloads, jobs and hours.

    Exits with an error if the features do not fit on the disk.
    """
    from kanoclip.config import Configuration, parse
    from kanoclip.expansion import expand
    from kanoclip.plan import make_plan, render

    parsed = parse(Configuration, read_configuration(configfile or [DEFAULT], parse_options(config)), "configuration")
    made = make_plan(parsed, expand(parsed))
    print(render(made))
    made.check()


def read_configuration(files: Sequence[Path], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Read and merge configurations as Snakemake does: later files override earlier ones, and single keys override all.

    Args:
        files: YAML files, in order.
        changes: single keys that override the files.

    Raises:
        InputError: a file is missing or holds no keys.
    """
    merged: dict[str, Any] = {}
    for path in files:
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(f"{path}: expected a configuration in YAML, found none: {_line(error)}") from error
        if not isinstance(values, Mapping):
            raise InputError(f"{path}: expected keys and values in YAML, found {type(values).__name__}")
        merged = _merged(merged, values)
    return _merged(merged, changes)


def _merged(below: Any, above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below) if isinstance(below, Mapping) else {}
    for key, value in above.items():
        result[key] = _merged(result.get(key), value) if isinstance(value, Mapping) else value
    return result


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
