"""Command that exports a method to ONNX."""

from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli.options import MethodSettings, Out, Threads, choose_device, input_file, key_values, parse_options


def export(
    class_name: Annotated[str, typer.Option(help='Class name in the prompts, as in "a photo of a {}".')],
    out: Out,
    checkpoint: Annotated[Path | None, input_file("Checkpoint of a trained method.")] = None,
    method: Annotated[str | None, typer.Option(help="Name of a training-free method.")] = None,
    settings: MethodSettings = None,
    backbone_set: Annotated[
        list[str] | None,
        key_values("--backbone-set", "A key of the backbone. Default: the backbone of the checkpoint."),
    ] = None,
    threads: Threads = 1,
) -> None:
    """Export a method for one class to ONNX.

    The model takes an image and returns an anomaly map and a score.
    """
    from kanoclip.stages.export import Source
    from kanoclip.stages.export import export as write

    choose_device("cpu", threads)
    backbone = None if backbone_set is None else parse_options(backbone_set)
    write(Source(checkpoint, method, parse_options(settings)), class_name, out, backbone)
