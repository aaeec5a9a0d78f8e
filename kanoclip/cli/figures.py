"""Command that draws figures from metrics, scores and logs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kanoclip.cli.options import all_existing, existing, parse_pairs
from kanoclip.report.registry import INPUTS, named


def _given(name: str, **options: Any) -> Any:
    """Return the option for an input of figures."""
    return typer.Option(f"--{name}", help=f"Input of figures: {INPUTS[name]}.", **options)


def figure(
    drawn: Annotated[
        list[str],
        typer.Argument(metavar="NAME=PNG...", help="Figures to draw; a PDF and an SVG are written beside each PNG."),
    ],
    index: Annotated[Path | None, _given("index", callback=existing)] = None,
    scores: Annotated[list[Path] | None, _given("scores", callback=all_existing)] = None,
    pairs: Annotated[list[str] | None, _given("pairs")] = None,
    curves: Annotated[list[str] | None, _given("curves")] = None,
    logs: Annotated[list[str] | None, _given("logs")] = None,
    metrics: Annotated[Path | None, _given("metrics", callback=existing)] = None,
    methods: Annotated[list[str] | None, _given("methods")] = None,
    datasets: Annotated[list[str] | None, _given("datasets")] = None,
    train: Annotated[Path | None, _given("train", callback=existing)] = None,
    validation: Annotated[Path | None, _given("validation", callback=existing)] = None,
) -> None:
    """Draw figures.

    `kanoclip list figures` lists their names. Repeat an option to give it several values, in order.
    """
    given = {
        "index": index,
        "scores": scores,
        "pairs": [(existing(Path(first)), existing(Path(second))) for first, second in parse_pairs(pairs)],
        "curves": _files_by_name(curves),
        "logs": _files_by_name(logs),
        "metrics": metrics,
        "methods": methods,
        "datasets": datasets,
        "train": train,
        "validation": validation,
    }
    for chosen, out in [(named(name), Path(png)) for name, png in parse_pairs(drawn)]:
        chosen.draw(given, out)


def _files_by_name(items: list[str] | None) -> dict[str, list[Path]]:
    """Return the files of each name from NAME=FILE items; names can repeat."""
    files: dict[str, list[Path]] = {}
    for name, path in parse_pairs(items):
        existing(Path(path))
        files.setdefault(name, []).append(Path(path))
    return files
