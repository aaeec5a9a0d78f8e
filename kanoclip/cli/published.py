"""Commands for weights that the authors of a method published."""

from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli.options import (
    Device,
    MethodSettings,
    Out,
    Seed,
    Threads,
    all_existing,
    choose_device,
    key_values,
    parse_options,
)

Method = Annotated[str, typer.Argument(help="Name of a trainable method; `kanoclip list methods` lists all.")]


def fetch_weights(
    method: Method,
    auxiliary: Annotated[str, typer.Option(help="Name of the dataset that the weights were trained on.")],
    resources: Annotated[Path, typer.Option(help="Folder for the downloads.")] = Path("resources"),
) -> None:
    """Download and verify the weights that the authors of a method published."""
    from kanoclip.stages.importing import fetch_stage

    for path in fetch_stage(method, auxiliary, resources):
        typer.echo(path)


def import_(
    method: Method,
    files: Annotated[
        list[Path], typer.Argument(help="Files written by the authors' code, in order.", callback=all_existing)
    ],
    out: Out,
    auxiliary: Annotated[
        str, typer.Option(help="Name of the dataset that the weights were trained on, which is never scored with them.")
    ],
    settings: MethodSettings = None,
    backbone_set: Annotated[list[str] | None, key_values("--backbone-set", "A key of the backbone.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
) -> None:
    """Convert weights that the authors of a method published into a checkpoint.

    Works offline and reads only tensors, never code. The options and the backbone are those of the method's
    publication; --set and --backbone-set override them.
    """
    from kanoclip.config import BackboneConfig, parse
    from kanoclip.methods import method_class
    from kanoclip.stages.importing import import_stage

    kind = method_class(method)
    options = {**kind.published, **kind.published_on.get(auxiliary, {}), **parse_options(settings)}
    values = {**kind.published_backbone, **parse_options(backbone_set)}
    backbone = parse(BackboneConfig, values, "--backbone-set")
    import_stage(method, files, out, auxiliary, options, backbone, choose_device(device, threads), seed)
