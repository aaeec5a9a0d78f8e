"""From metrics and scores to tables, figures and the page."""

from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli.options import Datasets, Facts, Figure, Index, Methods, Out, all_existing, input_file, parse_pairs


def tables(
    metrics: Annotated[
        list[Path], typer.Argument(help="metrics.csv of every method, target and seed.", callback=all_existing)
    ],
    out: Annotated[Path, typer.Option(help="The folder for metrics.csv and main.csv, .md, .tex, .html.")],
    method: Methods,
    dataset: Datasets,
    fact: Facts = None,
) -> None:
    """Collect metrics into one long table and render the main table."""
    from kanoclip.report.tables import write_tables

    write_tables(metrics, out, method, dataset, fact or [])


def qualitative(
    scores: Annotated[
        list[Path], typer.Argument(help="scores.h5 of each method on one dataset.", callback=all_existing)
    ],
    index: Index,
    out: Figure,
) -> None:
    """Draw images, masks and the maps of several methods on one dataset."""
    from kanoclip.report.figures import qualitative as draw

    draw(index, scores, out)


def teaser(
    pairs: Annotated[list[str], typer.Argument(metavar="INDEX=SCORES...", help="Of each dataset, one method.")],
    out: Figure,
) -> None:
    """Draw images, masks and the maps of one method on several datasets."""
    from kanoclip.report.figures import teaser as draw

    draw([(Path(index), Path(scores)) for index, scores in parse_pairs(pairs)], out)


def curves(
    logs: Annotated[list[str], typer.Argument(metavar="METHOD=TRAIN_CSV...", help="Of each method and seed.")],
    out: Figure,
) -> None:
    """Draw training curves."""
    from kanoclip.report.figures import training_curves

    by_method: dict[str, list[Path]] = {}
    for method, path in parse_pairs(logs):
        by_method.setdefault(method, []).append(Path(path))
    training_curves(by_method, out)


def page(
    figures: Annotated[list[Path], typer.Argument(help="The PNGs, in order.", callback=all_existing)],
    table: Annotated[Path, input_file("main.html of `kanoclip tables`.")],
    out: Out,
    title: Annotated[str, typer.Option(help="The heading.")],
    scores: Annotated[
        list[str] | None,
        typer.Option(metavar="INDEX=SCORES", help="A dataset and a method of the gallery; repeat, in order."),
    ] = None,
    gallery: Annotated[
        int, typer.Option(min=0, help="Images of each dataset, class and method in the gallery, at most; 0 for none.")
    ] = 12,
) -> None:
    """Write the page that a person opens first."""
    from kanoclip.report.page import write_page

    pairs = [(Path(index), Path(path)) for index, path in parse_pairs(scores)]
    write_page(table, figures, out, title, pairs, gallery)
