"""Commands that list and fetch what a run needs from the network."""

import typer

from kanoclip.cli.options import BackboneSettings, Out, parse_options
from kanoclip.cli.plan import DEFAULT, Configfile, Overrides, read_configuration


def downloads(
    configfile: Configfile = None,
    config: Overrides = None,
) -> None:
    """List the datasets and weights that a run still needs.

    Each is listed with its size, its licence, where to get it and where to put it.
    """
    from kanoclip.config import Configuration, parse
    from kanoclip.downloads import missing, render
    from kanoclip.expansion import expand

    parsed = parse(Configuration, read_configuration(configfile or [DEFAULT], parse_options(config)), "configuration")
    typer.echo(render(missing(parsed, expand(parsed))))


def fetch_backbone(out: Out, settings: BackboneSettings = None) -> None:
    """Download the pretrained weights of a backbone and record their identity."""
    from kanoclip.backbones.weights import weights_identity
    from kanoclip.config import BackboneConfig, parse
    from kanoclip.files import write_json

    config = parse(BackboneConfig, parse_options(settings), "--set")
    write_json(out, {"model": config.model, "weights": config.weights, "identity": weights_identity(config)})
