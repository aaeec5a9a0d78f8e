"""What can be named in a configuration, and its schema."""

from pathlib import Path
from typing import Annotated

import typer

from kanoclip import __version__
from kanoclip.cli.options import Out


def list_names(what: Annotated[str, typer.Argument(help="datasets, methods, metrics or backbones.")]) -> None:
    """List what can be named in a configuration."""
    from kanoclip.stages import registered

    for name in registered(what):
        typer.echo(name)


def schema(
    out: Out,
    readme: Annotated[Path | None, typer.Option(help="The Markdown page of all keys, written too.")] = None,
) -> None:
    """Write the JSON schema of the configuration."""
    from kanoclip.files import write_json, write_text
    from kanoclip.schema import configuration_readme, configuration_schema

    write_json(out, configuration_schema())
    if readme is not None:
        write_text(readme, configuration_readme())


def version() -> None:
    """Print the version."""
    typer.echo(__version__)
