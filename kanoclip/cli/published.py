"""Weights that the authors of a method published."""

from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli.options import Device, Out, Seed, Settings, Threads, all_existing, choose_device, parse_options

Method = Annotated[str, typer.Argument(help="A trainable method; see `kanoclip list methods`.")]


def fetch_weights(
    method: Method,
    auxiliary: Annotated[str, typer.Option(help="Name of the dataset that they were trained on.")],
    resources: Annotated[Path, typer.Option(help="Folder of the downloads.")] = Path("resources"),
) -> None:
    """Fetch and verify the weights that the authors of a method published."""
    from kanoclip.stages.importing import fetch_stage

    for path in fetch_stage(method, auxiliary, resources):
        typer.echo(path)


def import_(
    method: Method,
    files: Annotated[
        list[Path], typer.Argument(help="What the authors' code wrote, in their order.", callback=all_existing)
    ],
    out: Out,
    auxiliary: Annotated[str, typer.Option(help="Name of the dataset it was trained on; never scored with it.")],
    settings: Settings = None,
    backbone_set: Annotated[
        list[str] | None, typer.Option("--backbone-set", metavar="KEY=VALUE", help="A key of the backbone; repeat.")
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
) -> None:
    """Turn weights that others trained into a checkpoint, offline; only tensors are read, no code.

    --set and --backbone-set go over the options and the backbone of the method's own publication.
    """
    from kanoclip.config import BackboneConfig, parse
    from kanoclip.methods import method_class
    from kanoclip.stages.importing import import_stage

    kind = method_class(method)
    options = {**kind.published, **kind.published_on.get(auxiliary, {}), **parse_options(settings)}
    values = {**kind.published_backbone, **parse_options(backbone_set)}
    backbone = parse(BackboneConfig, values, "--backbone-set")
    import_stage(method, files, out, auxiliary, options, backbone, choose_device(device, threads), seed)
