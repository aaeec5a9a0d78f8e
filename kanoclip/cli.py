"""The command line: one command a stage. Each reads files, calls one function of the package and writes files."""

import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from kanoclip import __version__
from kanoclip.types import InputError, setup_logging

# Heavy modules are imported inside the commands, so that --help and the light stages start at once.

app = typer.Typer(
    help="Zero-shot anomaly detection with CLIP. One command a stage; `snakemake` runs them all in order.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _existing(path: Path | None) -> Path | None:
    """An input file, or one clear line."""
    if path is not None and not path.is_file():
        raise InputError(f"{path}: expected a file, found none; run the stage that makes it")
    return path


def _input(description: str) -> Any:
    return typer.Option(help=description, callback=_existing)


def _all_existing(paths: list[Path]) -> list[Path]:
    for path in paths:
        _existing(path)
    return paths


Out = Annotated[Path, typer.Option(help="The file to write.")]
Index = Annotated[Path, _input("index.csv of the dataset.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option; may be repeated.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto takes a GPU if there is one.")]
Threads = Annotated[int, typer.Option(help="CPU threads.", min=1)]
Seed = Annotated[int, typer.Option(help="Makes every random choice.")]
Methods = Annotated[list[str], typer.Option(help="A row of the main table; repeat, in order.")]
Datasets = Annotated[list[str], typer.Option(help="A column of the main table; repeat, in order.")]
Facts = Annotated[
    list[str] | None, typer.Option(help="Part of the protocol to state beneath the table; may be repeated.")
]
Figure = Annotated[Path, typer.Option(help="The PNG; a PDF and an SVG are written beside it.")]
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@app.command()
def download(
    dataset: Annotated[str, typer.Option(help="Name of a dataset; see `kanoclip list datasets`.")],
    resources: Annotated[Path, typer.Option(help="Folder for archives and the images in them.")] = Path("resources"),
) -> None:
    """Fetch, verify and unpack the official archive of a dataset."""
    from kanoclip.datasets.download import download as fetch
    from kanoclip.datasets.specs import load_spec

    fetch(load_spec(dataset), resources)


@app.command()
def prepare(
    dataset: Annotated[str, typer.Option(help="Name of a shipped dataset, or any name together with --path.")],
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
    spec = folder_spec(dataset, dict(_pairs(class_name))) if own else load_spec(dataset)
    write_index(spec, out, resources, path, limit, seed)


@app.command()
def knowledge(
    dataset: Annotated[str, typer.Option(help="Name of the auxiliary dataset.")],
    index: Index,
    out: Out,
) -> None:
    """Collect descriptions of the anomalies of an auxiliary dataset's classes."""
    from kanoclip.datasets.index import read_index
    from kanoclip.knowledge.sources import curated
    from kanoclip.knowledge.store import write_knowledge

    write_knowledge(out, curated(dataset, read_index(index)["class_name"].unique().tolist()))


@app.command()
def encode(
    index: Index,
    out: Out,
    original: Annotated[str, typer.Option(help="Taps of the original stream, such as 24.")] = "",
    local: Annotated[str, typer.Option(help="Taps of the V-V stream, such as 6,12,18,24.")] = "",
    settings: Settings = None,
    batch_size: Annotated[int, typer.Option(help="Images a forward.", min=1)] = 32,
    workers: Annotated[int, typer.Option(help="Threads that load images.", min=1)] = 1,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Run the frozen backbone once over a dataset and cache its features. --set takes the backbone's keys."""
    from kanoclip.backbones.clip import Streams, load_backbone
    from kanoclip.config import BackboneConfig, parse
    from kanoclip.features import encode as cache_features

    streams = Streams(_numbers(original), _numbers(local))
    backbone = load_backbone(parse(BackboneConfig, _options(settings), "--set"), _device(device, threads))
    cache_features(index, backbone, streams, out, batch_size, workers)


@app.command()
def train(
    method: Annotated[str, typer.Option(help="A trainable method; see `kanoclip list methods`.")],
    features: Annotated[Path, _input("features.h5 of the auxiliary dataset.")],
    index: Index,
    knowledge: Annotated[Path, _input("knowledge.jsonl of the auxiliary dataset.")],
    out: Out,
    log: Annotated[Path, typer.Option(help="train.csv: the loss curves.")],
    auxiliary: Annotated[str, typer.Option(help="Name of the auxiliary dataset, for the record.")],
    settings: Settings = None,
    seed: Seed = 111,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Train a method on an auxiliary dataset. --set takes the method's keys."""
    from kanoclip.stages import EncodedDataset, train_stage

    data = EncodedDataset(auxiliary, index, features)
    train_stage(method, _options(settings), data, knowledge, out, log, seed, _device(device, threads))


@app.command()
def score(
    method: Annotated[str, typer.Option(help="A method; see `kanoclip list methods`.")],
    features: Annotated[Path, _input("features.h5 of the target dataset.")],
    index: Index,
    out: Out,
    checkpoint: Annotated[Path | None, _input("Of a trained method.")] = None,
    settings: Settings = None,
    seed: Seed = 111,
    row: Annotated[str | None, typer.Option(help="Name in the tables; default: the method's.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Name of the backbone in the tables; default: the model's.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="Name of the target dataset in the tables.")] = "target",
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Score the images of a target dataset. --set takes the keys of a method without checkpoint."""
    from kanoclip.stages import EncodedDataset, score_stage

    data = EncodedDataset(dataset, index, features)
    where = _device(device, threads)
    score_stage(method, _options(settings), data, out, checkpoint, seed, where, row, backbone)


@app.command()
def evaluate(
    scores: Annotated[Path, _input("scores.h5.")],
    index: Index,
    out: Out,
    resolution: Annotated[int | None, typer.Option(help="Pixels a side; default: the image size.", min=1)] = None,
    threads: Threads = 1,
) -> None:
    """Compute the metrics of every class and their mean."""
    from kanoclip.metrics.evaluate import evaluate as write_metrics

    _device("cpu", threads)
    write_metrics(scores, index, out, resolution)


@app.command()
def tables(
    metrics: Annotated[
        list[Path], typer.Argument(help="metrics.csv of every method, target and seed.", callback=_all_existing)
    ],
    out: Annotated[Path, typer.Option(help="The folder for metrics.csv and main.csv, .md, .tex, .html.")],
    method: Methods,
    dataset: Datasets,
    fact: Facts = None,
) -> None:
    """Collect metrics into one long table and render the main table."""
    from kanoclip.report.tables import write_tables

    write_tables(metrics, out, method, dataset, fact or [])


@app.command()
def qualitative(
    scores: Annotated[
        list[Path], typer.Argument(help="scores.h5 of each method on one dataset.", callback=_all_existing)
    ],
    index: Index,
    out: Figure,
) -> None:
    """Draw images, masks and the maps of several methods on one dataset."""
    from kanoclip.report.figures import qualitative as draw

    draw(index, scores, out)


@app.command()
def teaser(
    pairs: Annotated[list[str], typer.Argument(metavar="INDEX=SCORES...", help="Of each dataset, one method.")],
    out: Figure,
) -> None:
    """Draw images, masks and the maps of one method on several datasets."""
    from kanoclip.report.figures import teaser as draw

    draw([(Path(index), Path(scores)) for index, scores in _pairs(pairs)], out)


@app.command()
def curves(
    logs: Annotated[list[str], typer.Argument(metavar="METHOD=TRAIN_CSV...", help="Of each method and seed.")],
    out: Figure,
) -> None:
    """Draw training curves."""
    from kanoclip.report.figures import training_curves

    by_method: dict[str, list[Path]] = {}
    for method, path in _pairs(logs):
        by_method.setdefault(method, []).append(Path(path))
    training_curves(by_method, out)


@app.command()
def page(
    figures: Annotated[list[Path], typer.Argument(help="The PNGs, in order.", callback=_all_existing)],
    metrics: Annotated[Path, _input("The long metrics.csv of `kanoclip tables`.")],
    out: Out,
    title: Annotated[str, typer.Option(help="The heading.")],
    method: Methods,
    dataset: Datasets,
    fact: Facts = None,
) -> None:
    """Write the page that a person opens first."""
    from kanoclip.report.page import write_page

    write_page(metrics, figures, out, title, method, dataset, fact or [])


@app.command()
def pretrain(
    out: Annotated[Path, typer.Option(help="The folder of the run; a run that was cut off goes on.")],
    settings: Settings = None,
    threads: Threads = 1,
) -> None:
    """Train the embedded backbone kanoclip-tiny from nothing on drawn images. --set takes the recipe's keys."""
    from kanoclip.pretraining import Recipe
    from kanoclip.pretraining import pretrain as run

    _device("auto", threads)
    run(out, Recipe(**_options(settings)))


@app.command("list")
def list_names(what: Annotated[str, typer.Argument(help="datasets, methods, metrics or backbones.")]) -> None:
    """List what can be named in a configuration."""
    from kanoclip.stages import registered

    for name in registered(what):
        typer.echo(name)


@app.command()
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


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _pairs(items: Sequence[str] | None) -> list[tuple[str, str]]:
    pairs = [item.partition("=") for item in items or []]
    for key, equals, value in pairs:
        if not (key and equals):
            raise InputError(f"expected KEY=VALUE, found '{key}{equals}{value}'")
    return [(key, value) for key, _, value in pairs]


def _options(items: Sequence[str] | None) -> dict[str, Any]:
    """KEY=VALUE items with the values read as YAML."""
    return {key: yaml.safe_load(value) for key, value in _pairs(items)}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(",")) if text else ()
    except ValueError:
        raise InputError(f"expected block numbers separated by commas, found '{text}'") from None


def _device(name: str, threads: int) -> str:
    """Set the number of threads and choose where to compute."""
    import torch

    torch.set_num_threads(threads)
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device '{name}': torch sees no GPU; use --device cpu")
    return name


def main() -> None:
    """Run the command line; a mistake of the user ends with one line and exit code 1."""
    setup_logging()
    try:
        app()
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno in DISK_FULL:
            sys.exit(
                f"error: cannot write{f' {error.filename}' if error.filename else ''}: {error.strerror}; free "
                f"space and run again"
            )
        raise
