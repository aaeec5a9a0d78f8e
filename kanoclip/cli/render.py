"""From metrics and scores to tables and the page."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli.options import Out, Settings, all_existing, input_file, parse_options, parse_pairs

Protocol = Annotated[Path, input_file("protocol.json of `kanoclip protocol`.")]


def protocol(out: Out, settings: Settings = None) -> None:
    """Write what every table states of its run: rows, targets, backbones. --set takes the keys of a configuration."""
    from kanoclip.config import Configuration, parse
    from kanoclip.expansion import expand
    from kanoclip.files import write_json

    write_json(out, expand(parse(Configuration, parse_options(settings), "--set")).model_dump(mode="json"))


def tables(
    metrics: Annotated[
        list[Path], typer.Argument(help="metrics.csv of every method, target and seed.", callback=all_existing)
    ],
    out: Annotated[Path, typer.Option(help="The folder for metrics.csv and each table as .csv, .md, .tex, .html.")],
    protocol: Protocol,
    published: Annotated[
        list[Path] | None, typer.Option(help="A file of printed numbers; repeat.", callback=all_existing)
    ] = None,
    ablation: Annotated[str | None, typer.Option(help="Render this ablation table, and no other.")] = None,
) -> None:
    """Collect metrics into one long table and render the tables that people read."""
    from kanoclip.report.tables import write_tables
    from kanoclip.run import read_run

    write_tables(metrics, out, read_run(protocol), published or [], date.today(), ablation)


def runtime(
    costs: Annotated[
        list[Path], typer.Argument(help="cost.json of every method, target and seed.", callback=all_existing)
    ],
    models: Annotated[Path, typer.Option(help="The folder of the trained methods, with train.csv of each.")],
    benchmarks: Annotated[Path, typer.Option(help="The folder of Snakemake's benchmark files.")],
    out: Annotated[Path, typer.Option(help="The folder for runtime.csv, .md, .tex, .html.")],
    protocol: Protocol,
) -> None:
    """Render seconds, memory and parameters of every method."""
    from kanoclip.report.runtime import write_runtime
    from kanoclip.run import read_run

    write_runtime(costs, models, benchmarks, out, read_run(protocol), date.today())


def page(
    table: Annotated[Path, input_file("main.html of `kanoclip tables`.")],
    out: Out,
    title: Annotated[str, typer.Option(help="The heading.")],
    figures: Annotated[
        list[Path] | None, typer.Argument(help="The PNGs of `kanoclip figure`, in order.", callback=all_existing)
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(metavar="INDEX=SCORES", help="A dataset and a method of the gallery; repeat, in order."),
    ] = None,
    gallery: Annotated[
        int, typer.Option(min=0, help="Images of each dataset, class and method in the gallery, at most; 0 for none.")
    ] = 12,
    metrics: Annotated[
        Path | None,
        typer.Option(help="The long metrics.csv: the gallery opens on the class where the last method does best."),
    ] = None,
) -> None:
    """Write the page that a person opens first."""
    from kanoclip.report.page import write_page

    pairs = [(Path(index), Path(path)) for index, path in parse_pairs(scores)]
    write_page(table, figures or [], out, title, pairs, gallery, metrics)
