"""Commands that render tables and the page from metrics and scores."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli.options import Out, all_existing, input_file, key_values, parse_options, parse_pairs

Protocol = Annotated[Path, input_file("The protocol.json of the run, written by `kanoclip protocol`.")]


def protocol(
    out: Out,
    settings: Annotated[list[str] | None, key_values("--set", "A key of the configuration.")] = None,
) -> None:
    """Write the protocol of a run: its rows, jobs, targets and backbones.

    Tables state the protocol below their numbers.
    """
    from kanoclip.config import Configuration, parse
    from kanoclip.expansion import expand
    from kanoclip.files import write_json

    write_json(out, expand(parse(Configuration, parse_options(settings), "--set")).model_dump(mode="json"))


def tables(
    metrics: Annotated[
        list[Path], typer.Argument(help="The metrics.csv of every method, target and seed.", callback=all_existing)
    ],
    out: Annotated[
        Path, typer.Option(help="Folder to write metrics.csv and each table to, as .csv, .md, .tex and .html.")
    ],
    protocol: Protocol,
    published: Annotated[
        list[Path] | None,
        typer.Option(help="File of published numbers to show. Can be repeated.", callback=all_existing),
    ] = None,
    ablation: Annotated[
        str | None, typer.Option(help="Name of the ablation table to render instead of the other tables.")
    ] = None,
) -> None:
    """Collect metrics into one long table and render the result tables."""
    from kanoclip.report.tables import write_tables
    from kanoclip.run import read_run

    write_tables(metrics, out, read_run(protocol), published or [], date.today(), ablation)


def runtime(
    costs: Annotated[
        list[Path], typer.Argument(help="The cost.json of every method, target and seed.", callback=all_existing)
    ],
    models: Annotated[
        Path, typer.Option(help="Folder of the trained methods, with train.csv and cost.json per method and seed.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write runtime.csv, .md, .tex and .html to.")],
    protocol: Protocol,
) -> None:
    """Render the table of time, memory and parameters of every method."""
    from kanoclip.report.runtime import write_runtime
    from kanoclip.run import read_run

    write_runtime(costs, models, out, read_run(protocol), date.today())


def page(
    table: Annotated[Path, input_file("The main.html of `kanoclip tables`.")],
    out: Out,
    title: Annotated[str, typer.Option(help="Heading of the page.")],
    figures: Annotated[
        list[Path] | None, typer.Argument(help="PNG files of `kanoclip figure`, in order.", callback=all_existing)
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(metavar="INDEX=SCORES", help="Dataset and method of the gallery. Can be repeated, in order."),
    ] = None,
    gallery: Annotated[
        int,
        typer.Option(min=0, help="Maximum number of gallery images per dataset, class and method; 0 for no gallery."),
    ] = 12,
    metrics: Annotated[
        Path | None,
        typer.Option(
            help="The long-format metrics.csv; the gallery opens with the class that the last method scores best."
        ),
    ] = None,
    hidden: Annotated[
        list[str] | None,
        typer.Option(metavar="ROW", help="A row of the table that is not in the figures and the gallery."),
    ] = None,
) -> None:
    """Write the page of a run, with its table, figures and gallery."""
    from kanoclip.report.page import write_page

    pairs = [(Path(index), Path(path)) for index, path in parse_pairs(scores)]
    write_page(table, figures or [], out, title, pairs, gallery, metrics, hidden or [])
