"""Train, score, evaluate, compare; and train the embedded backbone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kanoclip.cli.options import (
    Device,
    Index,
    Seed,
    Settings,
    Threads,
    Workers,
    choose_device,
    existing,
    input_file,
    named,
    parse_json,
    parse_options,
)
from kanoclip.naming import HIGHEST_SEED
from kanoclip.types import InputError

if TYPE_CHECKING:
    from kanoclip.stages.dataset import Dataset

Features = Annotated[Path | None, input_file("features.h5 of the dataset; without it features are computed live.")]
BackboneSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--backbone-set", metavar="KEY=VALUE", help="A key of the backbone that computes features live; repeat."
    ),
]
StoreFolder = Annotated[Path | None, typer.Option(help="Keeps finished results; default: a folder beside --out.")]


def train(
    method: Annotated[str, typer.Option(help="A trainable method; see `kanoclip list methods`.")],
    index: Index,
    knowledge: Annotated[Path, input_file("knowledge.jsonl of the auxiliary dataset.")],
    out: Annotated[Path, typer.Option(help="The folder for seed<n>/checkpoint.safetensors and seed<n>/train.csv.")],
    auxiliary: Annotated[str, typer.Option(help="Name of the auxiliary dataset, for the record.", callback=named)],
    features: Features = None,
    backbone_set: BackboneSettings = None,
    settings: Settings = None,
    seed: Annotated[
        list[int], typer.Option(help="Random seed of a training; repeat for several.", min=0, max=HIGHEST_SEED)
    ] = [111],  # noqa: B006
    threshold_folds: Annotated[
        int, typer.Option(help="Parts of the classes, each left out once to choose a threshold; 0 for none.", min=0)
    ] = 2,
    store: StoreFolder = None,
    device: Device = "auto",
    threads: Threads = 1,
    workers: Workers = 1,
) -> None:
    """Train a method on an auxiliary dataset, once per seed. --set takes the method's keys."""
    from kanoclip.stages.training import train_stage

    data = _dataset(auxiliary, index, features, backbone_set, workers)
    where = choose_device(device, threads)
    train_stage(
        method, parse_options(settings), data, knowledge, out, seed, where, store or out / "store", threshold_folds
    )


def cross_validate(
    method: Annotated[str, typer.Option(help="A method; see `kanoclip list methods`.")],
    index: Index,
    knowledge: Annotated[Path, input_file("knowledge.jsonl of the auxiliary dataset.")],
    out: Annotated[Path, typer.Option(help="The folder for scores.h5, which `kanoclip evaluate` reads.")],
    features: Features = None,
    backbone_set: BackboneSettings = None,
    folds: Annotated[int, typer.Option(help="Parts of the classes; each is left out of training once.", min=2)] = 4,
    settings: Settings = None,
    seed: Seed = 111,
    device: Device = "auto",
    threads: Threads = 1,
    workers: Workers = 1,
) -> None:
    """Score each class of an auxiliary dataset by training on others: choose options here, not on a target."""
    from kanoclip.stages.cross_validation import cross_validate_stage

    data, where = _dataset("auxiliary", index, features, backbone_set, workers), choose_device(device, threads)
    cross_validate_stage(method, parse_options(settings), data, knowledge, out / "scores.h5", folds, seed, where)


def score(
    method: Annotated[str, typer.Option(help="A method; see `kanoclip list methods`.")],
    index: Index,
    out: Annotated[Path, typer.Option(help="The folder for scores.h5 and cost.json.")],
    features: Features = None,
    backbone_set: BackboneSettings = None,
    checkpoint: Annotated[Path | None, input_file("Of a trained method.")] = None,
    settings: Settings = None,
    seed: Seed = 111,
    dataset: Annotated[str, typer.Option(help="Name of the target dataset in the tables.", callback=named)] = "target",
    store: StoreFolder = None,
    batch_size: Annotated[int, typer.Option(help="Images at once.", min=1)] = 32,
    device: Device = "auto",
    threads: Threads = 1,
    workers: Workers = 1,
) -> None:
    """Score the images of a target dataset with one method. --set takes the keys of a method without checkpoint."""
    from kanoclip.stages.scoring import Scored, score_stage

    row = Scored(method, method, out, parse_options(settings), checkpoint, seed)
    target = _dataset(dataset, index, features, backbone_set, workers)
    score_stage([row], target, None, choose_device(device, threads), store or out / "store", batch_size)


def score_pass(
    results: Annotated[Path, typer.Option(help="The folder of a run.")],
    target: Annotated[str, typer.Option(help="Name of a target dataset.")],
    backbone: Annotated[str, typer.Option(help="Name of the backbone, in paths and tables.")],
    backbone_set: BackboneSettings,
    row: Annotated[
        list[str],
        typer.Option(help='JSON: {"row", "method", "options", "auxiliary", "seeds"} of a row of the tables; repeat.'),
    ],
    cached: Annotated[bool, typer.Option(help="Read features of the target from their cache.")] = False,
    batch_size: Annotated[int, typer.Option(help="Images at once.", min=1)] = 32,
    device: Device = "auto",
    threads: Threads = 1,
    workers: Workers = 1,
) -> None:
    """Score a target with many rows and seeds of a run in one pass; what is fresh already is not computed again."""
    from kanoclip.config import BackboneConfig, parse
    from kanoclip.layout import Layout
    from kanoclip.run import PassRow
    from kanoclip.stages.passes import score_target

    rows = [parse(PassRow, parse_json(text, "--row"), "--row") for text in row]
    config = parse(BackboneConfig, parse_options(backbone_set), "--backbone-set")
    where = choose_device(device, threads)
    score_target(Layout(results), target, backbone, config, rows, cached, where, batch_size, workers)


def evaluate(
    folders: Annotated[list[Path], typer.Argument(help="Folders of scores.h5; metrics.csv and curves.csv go there.")],
    index: Index,
    store: Annotated[
        Path | None, typer.Option(help="Folder that keeps results; what is there is not computed again.")
    ] = None,
    resolution: Annotated[int | None, typer.Option(help="Pixels per side; default: the image size.", min=1)] = None,
    bootstrap: Annotated[int, typer.Option(help="Draws for the intervals of image metrics; 0: none.", min=0)] = 1000,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Compute the metrics of each class and their mean, for one or many scores.h5 of a dataset in one pass."""
    from kanoclip.code_digest import command_digest
    from kanoclip.metrics.evaluate import Evaluation, evaluate_pass
    from kanoclip.result_store import Store

    todo = [Evaluation(folder / "scores.h5", folder / "metrics.csv", folder / "curves.csv") for folder in folders]
    kept, code = (Store(store), command_digest("evaluate")) if store else (None, "")
    evaluate_pass(todo, index, resolution, bootstrap, choose_device(device, threads), kept, code)


def compare(
    first: Annotated[Path, typer.Argument(help="scores.h5 of a method.", callback=existing)],
    second: Annotated[Path, typer.Argument(help="scores.h5 of another, on the same images.", callback=existing)],
    index: Index,
) -> None:
    """Print by how much two methods differ in image AUROC, with a 95 % interval and a p-value."""
    from kanoclip.metrics.compare import compare as test

    found = test(first, second, index)
    difference, low, high = (f"{100 * value:+.2f}" for value in (found.difference, found.low, found.high))
    typer.echo(
        f"image AUROC, class mean in percent, first minus second: {difference} "
        f"(95 % interval {low} to {high}, DeLong's test p = {found.p:.2g})"
    )


def pretrain(
    out: Annotated[Path, typer.Option(help="The folder of the run; a run that was cut off goes on.")],
    settings: Settings = None,
    threads: Threads = 1,
) -> None:
    """Train the embedded backbone kanoclip-tiny from nothing on drawn images. --set takes the recipe's keys."""
    from kanoclip.config import PretrainingConfig, parse
    from kanoclip.pretraining import pretrain as run

    choose_device("auto", threads)
    run(out, parse(PretrainingConfig, parse_options(settings), "--set"))


def _dataset(name: str, index: Path, features: Path | None, backbone_set: list[str] | None, workers: int) -> "Dataset":
    """The dataset of a stage: with a cache, or with a backbone that computes its features."""
    from kanoclip.config import BackboneConfig, parse
    from kanoclip.stages.dataset import Dataset

    if (features is None) == (backbone_set is None):
        raise InputError("give --features, or the backbone that computes them with --backbone-set, one of the two")
    config = None if backbone_set is None else parse(BackboneConfig, parse_options(backbone_set), "--backbone-set")
    return Dataset(name, index, features, config, workers)
