"""The page a person opens first: the main table and the figures in one file that needs no network."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from kanoclip.files import write_text
from kanoclip.report import formats
from kanoclip.report.tables import TINY_NOTE, main_table, notes, read_metrics
from kanoclip.types import InputError

TEMPLATE = Path(__file__).with_name("page.html.j2")
# by the beginning of a figure's file name: its title (completed by the rest of the name) and how it was made
CAPTIONS = {
    "teaser": (
        "Overview",
        "The anomalous images with the highest and the median image score of each dataset, their masks, and the "
        "anomaly maps. Images are shown as squares, as the method sees them. One colour scale a dataset, from the "
        "first to the last percentile of the values shown; white outline: ground truth; number: image score.",
    ),
    "qualitative": (
        "Anomaly maps: ",
        "The anomalous images with the highest, the median and the lowest image score and the normal image with the "
        "median one, all by the first method. Images are shown as squares, as the methods see them. One colour scale a "
        "method, from the first to the last percentile of the values shown; white outline: ground truth; number: image "
        "score.",
    ),
    "training_curves": (
        "Training curves",
        "Each part of the loss against the step: running means over one thirtieth of the training; the band is the "
        "standard deviation over seeds.",
    ),
}


@dataclass(frozen=True)
class Embedded:
    """A figure inside the page; `data` is the PNG in base 64."""

    name: str
    title: str
    caption: str
    data: str


def write_page(
    metrics: Path,
    figures: Sequence[Path],
    out: Path,
    title: str,
    methods: Sequence[str],
    datasets: Sequence[str],
    facts: Sequence[str] = (),
) -> None:
    """Write index.html.

    Args:
        metrics: the long metrics.csv of `tables.write_tables`.
        figures: the PNGs of `figures`, in the order of the page.
        out: index.html.
        title: the heading.
        methods: the rows of the main table.
        datasets: its columns.
        facts: parts of the protocol that the metrics do not hold; see `tables.notes`.

    Raises:
        InputError: a figure is missing, or its name says not what it is.
    """
    frame = read_metrics(metrics)
    lines = notes(frame, methods, datasets, facts)
    environment = Environment(loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, keep_trailing_newline=True)
    page = environment.get_template(TEMPLATE.name).render(
        title=title,
        warning=TINY_NOTE if TINY_NOTE in lines else "",
        table=Markup(formats.to_html(main_table(frame, methods, datasets, formats.HTML), lines)),
        figures=[_embedded(path) for path in figures],
    )
    write_text(out, page)


def _embedded(path: Path) -> Embedded:
    if not path.is_file():
        raise InputError(f"{path}: no such figure; draw it with kanoclip qualitative, teaser or curves")
    for beginning, (title, caption) in CAPTIONS.items():
        if path.stem == beginning or path.stem.startswith(f"{beginning}_"):
            rest = path.stem.removeprefix(beginning).removeprefix("_")
            return Embedded(path.stem, title + rest, caption, base64.b64encode(path.read_bytes()).decode("ascii"))
    raise InputError(f"{path}: no caption for this figure; expected a name that begins with {', '.join(CAPTIONS)}")
