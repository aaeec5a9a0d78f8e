"""From metrics to tables and the page."""

from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli.options import Datasets, Facts, Methods, Out, all_existing, input_file, parse_pairs


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
