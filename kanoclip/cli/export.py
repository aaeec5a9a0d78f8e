"""Write a method as ONNX."""

from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli.options import Out, Settings, Threads, choose_device, existing, parse_options


def export(
    class_name: Annotated[str, typer.Option(help='The class for the prompts, as in "a photo of a {}".')],
    out: Out,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint of a trained method.", callback=existing)] = None,
    method: Annotated[str | None, typer.Option(help="A method that needs no checkpoint.")] = None,
    settings: Settings = None,
    backbone_set: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A key of the backbone; default: that of the checkpoint; repeat."),
    ] = None,
    threads: Threads = 1,
) -> None:
    """Write a method for one class as ONNX: image in, anomaly map and score out. --set takes the method's keys."""
    from kanoclip.stages.export import Source
    from kanoclip.stages.export import export as write

    choose_device("cpu", threads)
    backbone = None if backbone_set is None else parse_options(backbone_set)
    write(Source(checkpoint, method, parse_options(settings)), class_name, out, backbone)
