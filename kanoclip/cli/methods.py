"""Commands that train, score, evaluate and compare methods, and pretrain the embedded backbone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kanoclip.cli.options import (
    BatchSize,
    Device,
    Index,
    MethodSettings,
    Seed,
    Threads,
    Workers,
    choose_device,
    existing,
    input_file,
    key_values,
    named,
    parse_json,
    parse_options,
)
from kanoclip.naming import HIGHEST_SEED
from kanoclip.types import InputError

if TYPE_CHECKING:
    from kanoclip.stages.dataset import Dataset

Features = Annotated[
    Path | None, input_file("The features.h5 of the dataset. Default: compute the features while they are read.")
]
LiveBackbone = Annotated[
    list[str] | None,
    key_values("--backbone-set", "A key of the backbone that computes features when --features is not given."),
]
StoreFolder = Annotated[
    Path | None, typer.Option(help="Folder that keeps finished results. Default: the folder store inside --out.")
]


def train(
    method: Annotated[str, typer.Option(help="Name of a trainable method; `kanoclip list methods` lists all.")],
    index: Index,
    knowledge: Annotated[Path, input_file("The knowledge.jsonl of the auxiliary dataset.")],
    out: Annotated[Path, typer.Option(help="Folder to write seed<n>/checkpoint.safetensors and seed<n>/train.csv to.")],
    auxiliary: Annotated[
        str, typer.Option(help="Name of the auxiliary dataset, recorded in the checkpoint.", callback=named)
    ],
    features: Features = None,
    backbone_set: LiveBackbone = None,
    settings: MethodSettings = None,
    seed: Annotated[
        list[int], typer.Option(help="Random seed. Can be repeated to train once per seed.", min=0, max=HIGHEST_SEED)
    ] = [111],  # noqa: B006
    threshold_folds: Annotated[
        int,
        typer.Option(
            help="Folds of classes to choose the threshold on; 1 leaves out half of the classes once, 0 chooses none.",
            min=0,
        ),
    ] = 1,
    store: StoreFolder = None,
    device: Device = "auto",
    threads: Threads = 1,
    workers: Workers = 1,
) -> None:
    """Train a method on an auxiliary dataset, once per seed."""
    from kanoclip.stages.training import train_stage

    data = _dataset(auxiliary, index, features, backbone_set, workers)
    where = choose_device(device, threads)
    train_stage(
        method, parse_options(settings), data, knowledge, out, seed, where, store or out / "store", threshold_folds
    )


def cross_validate(
    method: Annotated[str, typer.Option(help="Name of the method; `kanoclip list methods` lists them.")],
    index: Index,
    knowledge: Annotated[Path, input_file("The knowledge.jsonl of the auxiliary dataset.")],
    out: Annotated[Path, typer.Option(help="Folder to write scores.h5 to, which `kanoclip evaluate` reads.")],
    features: Features = None,
    backbone_set: LiveBackbone = None,
    folds: Annotated[
        int, typer.Option(help="Number of folds of classes; training leaves out each fold once.", min=2)
    ] = 4,
    settings: MethodSettings = None,
    seed: Seed = 111,
    device: Device = "auto",
    threads: Threads = 1,
    workers: Workers = 1,
) -> None:
    """Cross-validate a method over the classes of an auxiliary dataset.

    Each class is scored by a method trained on other classes. Choose options with these scores, never on a target.
    """
    from kanoclip.stages.cross_validation import cross_validate_stage

    data, where = _dataset("auxiliary", index, features, backbone_set, workers), choose_device(device, threads)
    cross_validate_stage(method, parse_options(settings), data, knowledge, out / "scores.h5", folds, seed, where)


def score(
    method: Annotated[str, typer.Option(help="Name of the method; `kanoclip list methods` lists them.")],
    index: Index,
    out: Annotated[Path, typer.Option(help="Folder to write scores.h5 and cost.json to.")],
    features: Features = None,
    backbone_set: LiveBackbone = None,
    checkpoint: Annotated[Path | None, input_file("Checkpoint of a trained method.")] = None,
    settings: MethodSettings = None,
    seed: Seed = 111,
    dataset: Annotated[str, typer.Option(help="Name of the target dataset in tables.", callback=named)] = "target",
    store: StoreFolder = None,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    threads: Threads = 1,
    workers: Workers = 1,
) -> None:
    """Score the images of a target dataset with one method.

    Use --set for training-free methods only: a checkpoint contains the options of its method.
    """
    from kanoclip.stages.scoring import Scored, score_stage

    row = Scored(method, method, out, parse_options(settings), checkpoint, seed)
    target = _dataset(dataset, index, features, backbone_set, workers)
    score_stage([row], target, None, choose_device(device, threads), store or out / "store", batch_size)


def score_pass(
    results: Annotated[Path, typer.Option(help="Folder of the run.")],
    target: Annotated[str, typer.Option(help="Name of the target dataset.")],
    backbone: Annotated[str, typer.Option(help="Name of the backbone in paths and tables.")],
    backbone_set: Annotated[list[str] | None, key_values("--backbone-set", "A key of the backbone.")],
    row: Annotated[
        list[str],
        typer.Option(
            help='Row of the tables as JSON with "row", "method", "options", "auxiliary", "seeds". Can be repeated.'
        ),
    ],
    cached: Annotated[bool, typer.Option(help="Read the features of the target from the cache of the run.")] = False,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    threads: Threads = 1,
    workers: Workers = 1,
) -> None:
    """Score a target dataset with many rows and seeds in one pass.

    Scores that are up to date are not computed again.
    """
    from kanoclip.config import BackboneConfig, parse
    from kanoclip.layout import Layout
    from kanoclip.rows import PassRow
    from kanoclip.stages.passes import score_target

    rows = [parse(PassRow, parse_json(text, "--row"), "--row") for text in row]
    config = parse(BackboneConfig, parse_options(backbone_set), "--backbone-set")
    where = choose_device(device, threads)
    score_target(Layout(results), target, backbone, config, rows, cached, where, batch_size, workers)


def evaluate(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders with a scores.h5; metrics.csv and curves.csv are written there.")
    ],
    index: Index,
    store: Annotated[
        Path | None, typer.Option(help="Folder that keeps finished results, so that they are not computed again.")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the evaluated maps in pixels. Default: the image size.", min=1)
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(help="Bootstrap draws for the intervals of image metrics; 0 for no intervals.", min=0)
    ] = 1000,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Compute the metrics of scores, per class and as their mean.

    Several scores.h5 of the same dataset are evaluated in one pass.
    """
    from kanoclip.code_digest import command_digest
    from kanoclip.metrics.evaluate import Evaluation, evaluate_pass
    from kanoclip.result_store import Store

    todo = [Evaluation(folder / "scores.h5", folder / "metrics.csv", folder / "curves.csv") for folder in folders]
    kept, code = (Store(store), command_digest("evaluate")) if store else (None, "")
    evaluate_pass(todo, index, resolution, bootstrap, choose_device(device, threads), kept, code)


def compare(
    first: Annotated[Path, typer.Argument(help="The scores.h5 of a method.", callback=existing)],
    second: Annotated[
        Path, typer.Argument(help="The scores.h5 of another method on the same images.", callback=existing)
    ],
    index: Index,
) -> None:
    """Test whether two methods differ in image AUROC.

    Prints the difference with a 95 % interval and a p-value.
    """
    from kanoclip.metrics.compare import compare as test

    found = test(first, second, index)
    difference, low, high = (f"{100 * value:+.2f}" for value in (found.difference, found.low, found.high))
    typer.echo(
        f"image AUROC, class mean in percent, first minus second: {difference} "
        f"(95 % interval {low} to {high}, DeLong's test p = {found.p:.2g})"
    )


def pretrain(
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted run is resumed.")],
    settings: Annotated[list[str] | None, key_values("--set", "A key of the training recipe.")] = None,
    threads: Threads = 1,
) -> None:
    """Train the embedded backbone kanoclip-tiny from scratch on drawn images."""
    from kanoclip.config import PretrainingConfig, parse
    from kanoclip.pretraining import pretrain as run

    choose_device("auto", threads)
    run(out, parse(PretrainingConfig, parse_options(settings), "--set"))


def _dataset(name: str, index: Path, features: Path | None, backbone_set: list[str] | None, workers: int) -> "Dataset":
    """Return the dataset of a stage, with cached features or with a backbone that computes them."""
    from kanoclip.config import BackboneConfig, parse
    from kanoclip.stages.dataset import Dataset

    if (features is None) == (backbone_set is None):
        raise InputError("give --features, or the backbone that computes them with --backbone-set, one of the two")
    config = None if backbone_set is None else parse(BackboneConfig, parse_options(backbone_set), "--backbone-set")
    return Dataset(name, index, features, config, workers)
