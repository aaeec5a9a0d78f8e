"""Commands from a dataset to cached features."""

from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli.options import (
    BackboneSettings,
    BatchSize,
    Device,
    Index,
    Out,
    Seed,
    Threads,
    Workers,
    choose_device,
    key_values,
    named,
    parse_options,
    parse_pairs,
)


def download(
    dataset: Annotated[
        str,
        typer.Option(
            help="Name of the dataset; `kanoclip list datasets` lists them. dtd and imagenet_sample are photographs "
            "for pretraining."
        ),
    ],
    resources: Annotated[Path, typer.Option(help="Folder for the archives and the extracted images.")] = Path(
        "resources"
    ),
) -> None:
    """Download, verify and extract the official archive of a dataset."""
    from kanoclip.datasets.download import download as fetch
    from kanoclip.datasets.public_photographs import load_photographs, photograph_names
    from kanoclip.datasets.specs import load_spec

    fetch(load_photographs(dataset) if dataset in photograph_names() else load_spec(dataset), resources)


def photographs(
    source: Annotated[list[str], typer.Option(help="A public source: dtd or imagenet_sample. Can be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder to write, which replaces an existing one.")],
    resources: Annotated[Path, typer.Option(help="Folder for the downloads.")] = Path("resources"),
) -> None:
    """Collect public photographs without defects in one folder, for pretraining."""
    from kanoclip.datasets.public_photographs import collect, load_photographs

    collect([load_photographs(name) for name in source], out, resources)


def prepare(
    dataset: Annotated[
        str, typer.Option(help="Name of a known dataset, or any name together with --path.", callback=named)
    ],
    out: Out,
    resources: Annotated[Path, typer.Option(help="Folder with the downloads.")] = Path("resources"),
    path: Annotated[Path | None, typer.Option(help="Local folder to use instead of the download.")] = None,
    limit: Annotated[int | None, typer.Option(help="Maximum number of images per class and label.", min=1)] = None,
    seed: Seed = 0,
    class_name: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER=NAME", help="Name that prompts use for the class in a folder. Can be repeated."),
    ] = None,
) -> None:
    """Check the images and masks of a dataset and write its index.csv."""
    from kanoclip.datasets.prepare import prepare as write_index
    from kanoclip.datasets.specs import dataset_names, folder_spec, load_spec
    from kanoclip.types import InputError

    own = path is not None and dataset not in dataset_names()
    if class_name and dataset in dataset_names():
        raise InputError(
            f"--class-name: only for a dataset of your own, found {dataset}; leave it out, or give --dataset another "
            "name and --path"
        )
    spec = folder_spec(dataset, dict(parse_pairs(class_name))) if own else load_spec(dataset)
    write_index(spec, out, resources, path, limit, seed)


def knowledge(
    dataset: Annotated[str, typer.Option(help="Name of the auxiliary dataset.", callback=named)],
    index: Index,
    out: Out,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="File that keeps the answers of language models. Default: --out with the suffix .answers.jsonl."
        ),
    ] = None,
    settings: Annotated[list[str] | None, key_values("--set", "A key of `knowledge` in the configuration.")] = None,
) -> None:
    """Collect descriptions of the classes and anomalies of an auxiliary dataset."""
    from kanoclip.config import KnowledgeConfig, parse
    from kanoclip.datasets.index import read_index
    from kanoclip.knowledge.jsonl import write_knowledge
    from kanoclip.knowledge.sources import collect
    from kanoclip.types import InputError

    config = parse(KnowledgeConfig, parse_options(settings), "--set")
    answers = answers or out.with_suffix(".answers.jsonl")
    if answers.resolve() == out.resolve():
        raise InputError(f"--answers: expected another file than --out, found {answers} for both; leave --answers out")
    write_knowledge(out, collect(dataset, read_index(index), config, answers))


def encode(
    index: Index,
    out: Out,
    tap: Annotated[
        list[str], typer.Option(help="Tap to cache, such as tokens/24, vv/6 or windows/2. Can be repeated.")
    ],
    settings: BackboneSettings = None,
    batch_size: BatchSize = 32,
    workers: Workers = 1,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Run the frozen backbone once over a dataset and cache its features."""
    from kanoclip.backbones.clip import load_backbone
    from kanoclip.backbones.taps import Tap
    from kanoclip.config import BackboneConfig, parse
    from kanoclip.features import encode as cache_features

    backbone = load_backbone(parse(BackboneConfig, parse_options(settings), "--set"), choose_device(device, threads))
    cache_features(index, backbone, [Tap.parse(text) for text in tap], out, batch_size, workers)
