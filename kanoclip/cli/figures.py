"""From metrics, scores and logs to figures."""

from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli.options import Datasets, Figure, Index, Methods, all_existing, existing, input_file, parse_pairs

Metrics = Annotated[Path, input_file("The long metrics.csv of `kanoclip tables`.")]
Scores = Annotated[list[Path], typer.Argument(help="scores.h5 of each method on one dataset.", callback=all_existing)]


def qualitative(scores: Scores, index: Index, out: Figure) -> None:
    """Draw images, masks and the maps of several methods on one dataset."""
    from kanoclip.report.figures.samples import qualitative as draw

    draw(index, scores, out)


def teaser(
    pairs: Annotated[list[str], typer.Argument(metavar="INDEX=SCORES...", help="Of each dataset, one method.")],
    out: Figure,
) -> None:
    """Draw images, masks and the maps of one method on several datasets."""
    from kanoclip.report.figures.samples import teaser as draw

    draw([(Path(index), Path(scores)) for index, scores in parse_pairs(pairs)], out)


def histograms(scores: Scores, index: Index, out: Figure) -> None:
    """Draw the image scores of normal and anomalous images, with the threshold of the highest F1."""
    from kanoclip.report.figures.histograms import histograms as draw

    draw(index, scores, out)


def detection_curves(
    curves: Annotated[list[str], typer.Argument(metavar="METHOD=CURVES_CSV...", help="Of each method and seed.")],
    out: Figure,
) -> None:
    """Draw the ROC and PRO curves of several methods on one dataset."""
    from kanoclip.report.figures.curves import detection_curves as draw

    draw(_files_by_name(curves), out)


def bars(metrics: Metrics, out: Figure, method: Methods, dataset: Datasets) -> None:
    """Draw the AUROC of every method on every dataset."""
    from kanoclip.report.figures.bars import dataset_bars

    dataset_bars(metrics, method, dataset, out)


def ranks(metrics: Metrics, out: Figure, method: Methods, dataset: Datasets) -> None:
    """Draw the average ranks of methods over datasets, with the critical difference."""
    from kanoclip.report.figures.ranks import rank_diagram

    rank_diagram(metrics, method, dataset, out)


def steps(metrics: Metrics, out: Figure, method: Methods, dataset: Datasets) -> None:
    """Draw the AUROC of the variants of an ablation, in the order given."""
    from kanoclip.report.figures.ablation import ablation_steps

    ablation_steps(metrics, method, dataset, out)


def curves(
    logs: Annotated[list[str], typer.Argument(metavar="METHOD=TRAIN_CSV...", help="Of each method and seed.")],
    out: Figure,
) -> None:
    """Draw training curves."""
    from kanoclip.report.figures.training import training_curves

    training_curves(_files_by_name(logs), out)


def pretraining_curves(
    train: Annotated[Path, input_file("train.csv of `kanoclip pretrain`.")],
    validation: Annotated[Path, input_file("validation.csv of `kanoclip pretrain`.")],
    out: Figure,
) -> None:
    """Draw the learning curves of the embedded backbone."""
    from kanoclip.report.figures.pretraining import pretraining_curves as draw

    draw(train, validation, out)


def generator(out: Annotated[Path, typer.Option(help="The PNG.")]) -> None:
    """Draw what the generator of synthetic images draws: every kind, normal and with defects."""
    from kanoclip.report.figures.generator import generator_picture

    generator_picture(out)


def _files_by_name(items: list[str]) -> dict[str, list[Path]]:
    """NAME=FILE items; a name may come again with another file."""
    files: dict[str, list[Path]] = {}
    for name, path in parse_pairs(items):
        existing(Path(path))
        files.setdefault(name, []).append(Path(path))
    return files
