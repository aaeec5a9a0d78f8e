"""Commands that list names, and write the configuration schema and the tables of methods."""

from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli.options import Out
from kanoclip.types import unknown_name


def list_names(
    what: Annotated[str, typer.Argument(help="What to list: datasets, methods, metrics, backbones or figures.")],
) -> None:
    """List the datasets, methods, metrics, backbones or figures that exist."""
    for name in _registered(what):
        typer.echo(name)


def schema(
    out: Out,
    readme: Annotated[Path | None, typer.Option(help="Markdown page of all keys to write as well.")] = None,
) -> None:
    """Write the JSON schema of the configuration."""
    from kanoclip.files import write_json, write_text
    from kanoclip.schema import configuration_readme, configuration_schema

    write_json(out, configuration_schema())
    if readme is not None:
        write_text(readme, configuration_readme())


def overview(
    out: Out,
    readme: Annotated[Path, typer.Option(help="README to update between the markers of its table of methods.")],
) -> None:
    """Write tables of what each method learns, reads and costs."""
    from kanoclip.files import write_text
    from kanoclip.overview import overviews, page, short, with_table

    rows = overviews()
    write_text(out, page(rows))
    write_text(readme, with_table(readme.read_text(encoding="utf-8"), short(rows), str(readme)))


def _registered(what: str) -> list[str]:
    """Return every name of a kind: datasets, methods, metrics, backbones or figures.

    Raises:
        InputError: there is no such kind.
    """
    if what == "datasets":
        from kanoclip.datasets.specs import dataset_names

        return dataset_names()
    if what == "methods":
        from kanoclip.code_digest import installed  # lists methods without importing them and torch

        return sorted(installed().methods)
    if what == "metrics":
        from kanoclip.metrics.registry import LEVELS, metrics_of

        return [f"{level} {metric.name}" for level in LEVELS for metric in metrics_of(level)]
    if what == "backbones":
        from kanoclip.backbones.descriptions import model_names

        return model_names()
    if what == "figures":
        from kanoclip.report.registry import figures

        return list(figures())
    raise unknown_name("kind", what, ["datasets", "methods", "metrics", "backbones", "figures"])
