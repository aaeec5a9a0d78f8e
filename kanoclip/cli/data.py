"""From a dataset to cached features."""

from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli.options import (
    Device,
    Index,
    Out,
    Seed,
    Settings,
    Threads,
    choose_device,
    named,
    parse_options,
    parse_pairs,
)


def download(
    dataset: Annotated[str, typer.Option(help="Name of a dataset; see `kanoclip list datasets`.")],
    resources: Annotated[Path, typer.Option(help="Folder for archives and the images in them.")] = Path("resources"),
) -> None:
    """Fetch, verify and unpack the official archive of a dataset."""
    from kanoclip.datasets.download import download as fetch
    from kanoclip.datasets.specs import load_spec

    fetch(load_spec(dataset), resources)


def prepare(
    dataset: Annotated[
        str, typer.Option(help="Name of a shipped dataset, or any name together with --path.", callback=named)
    ],
    out: Out,
    resources: Annotated[Path, typer.Option(help="Folder of the downloads.")] = Path("resources"),
    path: Annotated[Path | None, typer.Option(help="A local folder, instead of the download.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many images a class and label.", min=1)] = None,
    seed: Seed = 0,
    class_name: Annotated[
        list[str] | None, typer.Option(metavar="FOLDER=NAME", help="A class's name in prompts.")
    ] = None,
) -> None:
    """Check a dataset's images and masks and write its index.csv."""
    from kanoclip.datasets.prepare import prepare as write_index
    from kanoclip.datasets.specs import dataset_names, folder_spec, load_spec

    own = path is not None and dataset not in dataset_names()
    spec = folder_spec(dataset, dict(parse_pairs(class_name))) if own else load_spec(dataset)
    write_index(spec, out, resources, path, limit, seed)


def knowledge(
    dataset: Annotated[str, typer.Option(help="Name of the auxiliary dataset.", callback=named)],
    index: Index,
    out: Out,
    answers: Annotated[
        Path | None, typer.Option(help="Keeps what models answer; default: beside --out, as .answers.jsonl.")
    ] = None,
    settings: Settings = None,
) -> None:
    """Collect descriptions of an auxiliary dataset's classes and anomalies. --set takes the keys of knowledge."""
    from kanoclip.config import KnowledgeConfig, parse
    from kanoclip.datasets.index import read_index
    from kanoclip.knowledge.jsonl import write_knowledge
    from kanoclip.knowledge.sources import collect

    config = parse(KnowledgeConfig, parse_options(settings), "--set")
    answers = answers or out.with_suffix(".answers.jsonl")
    write_knowledge(out, collect(dataset, read_index(index), config, answers))


def encode(
    index: Index,
    out: Out,
    tap: Annotated[list[str], typer.Option(help="A tap to keep, such as tokens/24, vv/6 or windows/2; repeat.")],
    settings: Settings = None,
    batch_size: Annotated[int, typer.Option(help="Images per forward.", min=1)] = 32,
    workers: Annotated[int, typer.Option(help="Threads that load images.", min=1)] = 1,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Run the frozen backbone once over a dataset and cache its features. --set takes the backbone's keys."""
    from kanoclip.backbones.clip import load_backbone
    from kanoclip.backbones.taps import Tap
    from kanoclip.config import BackboneConfig, parse
    from kanoclip.features import encode as cache_features

    backbone = load_backbone(parse(BackboneConfig, parse_options(settings), "--set"), choose_device(device, threads))
    cache_features(index, backbone, [Tap.parse(text) for text in tap], out, batch_size, workers)
