"""What has to be fetched before a run can compute."""

from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli.options import Out, Settings, parse_options
from kanoclip.cli.plan import DEFAULT, read_configuration


def downloads(
    configfile: Annotated[
        list[Path] | None,
        typer.Option(help=f"A configuration; repeat to merge several, as Snakemake does. Default: {DEFAULT}."),
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A key that overrides the files; may be repeated.")
    ] = None,
) -> None:
    """List the datasets and weights that a run still lacks: size, licence, where to get them, where to put them."""
    from kanoclip.config import Configuration, parse
    from kanoclip.downloads import missing, render
    from kanoclip.expansion import expand

    parsed = parse(Configuration, read_configuration(configfile or [DEFAULT], parse_options(config)), "configuration")
    typer.echo(render(missing(parsed, expand(parsed))))


def fetch_backbone(out: Out, settings: Settings = None) -> None:
    """Fetch the pretrained weights of a backbone and record which they are. --set takes the backbone's keys."""
    from kanoclip.backbones.weights import weights_identity
    from kanoclip.config import BackboneConfig, parse
    from kanoclip.files import write_json

    config = parse(BackboneConfig, parse_options(settings), "--set")
    write_json(out, {"model": config.model, "weights": config.weights, "identity": weights_identity(config)})
