"""Train, import what others trained, score, evaluate, compare; and train the embedded backbone."""

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
    all_existing,
    choose_device,
    existing,
    input_file,
    parse_options,
)
from kanoclip.types import InputError


def train(
    method: Annotated[str, typer.Option(help="A trainable method; see `kanoclip list methods`.")],
    features: Annotated[Path, input_file("features.h5 of the auxiliary dataset.")],
    index: Index,
    knowledge: Annotated[Path, input_file("knowledge.jsonl of the auxiliary dataset.")],
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
    train_stage(method, parse_options(settings), data, knowledge, out, log, seed, choose_device(device, threads))


def cross_validate(
    method: Annotated[str, typer.Option(help="A method; see `kanoclip list methods`.")],
    features: Annotated[Path, input_file("features.h5 of the auxiliary dataset.")],
    index: Index,
    knowledge: Annotated[Path, input_file("knowledge.jsonl of the auxiliary dataset.")],
    out: Annotated[Path, typer.Option(help="scores.h5 of the auxiliary dataset, for `kanoclip evaluate`.")],
    folds: Annotated[int, typer.Option(help="Parts of the classes; each is left out of training once.", min=2)] = 4,
    settings: Settings = None,
    seed: Seed = 111,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Score each class of an auxiliary dataset by training on others: choose options here, not on a target."""
    from kanoclip.stages import EncodedDataset, cross_validate_stage

    data, where = EncodedDataset("auxiliary", index, features), choose_device(device, threads)
    cross_validate_stage(method, parse_options(settings), data, knowledge, out, folds, seed, where)


def import_prompts(
    prompts: Annotated[Path, typer.Argument(help="File of AnomalyCLIP's or Crane's training code.", callback=existing)],
    out: Out,
    auxiliary: Annotated[str, typer.Option(help="Name of the dataset they were trained on, for the record.")],
    settings: Settings = None,
    seed: Seed = 111,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Turn published prompts into a checkpoint of the method anomalyclip. --set takes the backbone's keys."""
    from kanoclip.backbones.clip import load_backbone
    from kanoclip.checkpoints import save_checkpoint
    from kanoclip.config import BackboneConfig, parse
    from kanoclip.files import sha256
    from kanoclip.methods.imported import import_prompts as read

    backbone = load_backbone(parse(BackboneConfig, parse_options(settings), "--set"), choose_device(device, threads))
    method = read(prompts, backbone, seed)
    record = {"method": "anomalyclip", "options": method.options.model_dump(mode="json"), "auxiliary": auxiliary}
    save_checkpoint(out, method, {**record, "seed": seed, "imported": {prompts.name: sha256(prompts)}})


def score(
    method: Annotated[str, typer.Option(help="A method; see `kanoclip list methods`.")],
    features: Annotated[Path, input_file("features.h5 of the target dataset.")],
    index: Index,
    out: Out,
    checkpoint: Annotated[Path | None, input_file("Of a trained method.")] = None,
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
    where = choose_device(device, threads)
    score_stage(method, parse_options(settings), data, out, checkpoint, seed, where, row, backbone)


def evaluate(
    scores: Annotated[list[Path], typer.Option(help="scores.h5; may be repeated.", callback=all_existing)],
    index: Index,
    out: Annotated[list[Path], typer.Option(help="metrics.csv, one for each --scores; curves.csv is written beside.")],
    resolution: Annotated[int | None, typer.Option(help="Pixels a side; default: the image size.", min=1)] = None,
    bootstrap: Annotated[int, typer.Option(help="Draws for the intervals of image metrics; 0: none.", min=0)] = 1000,
    store: Annotated[
        Path | None, typer.Option(help="Folder that keeps results; what is there is not computed.")
    ] = None,
    code: Annotated[str, typer.Option(help="Digest of the code: with another one all is computed again.")] = "",
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Compute the metrics of every class and their mean, for many methods of one dataset at once."""
    from kanoclip.metrics.evaluate import Evaluation, evaluate_pass
    from kanoclip.store import Store

    if len(scores) != len(out):
        raise InputError(f"expected one --out for each --scores, found {len(out)} for {len(scores)}")
    todo = [
        Evaluation(path, metrics, metrics.with_name("curves.csv")) for path, metrics in zip(scores, out, strict=True)
    ]
    where = choose_device(device, threads)
    evaluate_pass(todo, index, resolution, bootstrap, where, Store(store) if store else None, code)


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
