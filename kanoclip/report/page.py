"""The page a person opens first: the main table, a gallery and the figures in one file that needs no network."""

import base64
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib.colors import to_hex

from kanoclip.files import read_text, write_text
from kanoclip.report.gallery import read_gallery
from kanoclip.report.heat import COLOURS
from kanoclip.report.notes import TINY_NOTE
from kanoclip.report.registry import of_file
from kanoclip.types import InputError, logger

TEMPLATE = Path(__file__).with_name("page.html.j2")
STYLE, SCRIPT = TEMPLATE.with_name("page.css"), TEMPLATE.with_name("page.js")


@dataclass(frozen=True)
class Embedded:
    """A figure inside the page; `data` is the PNG in base 64."""

    name: str
    title: str
    caption: str
    data: str


def write_page(
    table: Path,
    figures: Sequence[Path],
    out: Path,
    title: str,
    scores: Sequence[tuple[Path, Path]] = (),
    gallery: int = 12,
) -> None:
    """Write index.html and log its size.

    Args:
        table: main.html of `tables.write_tables`.
        figures: the PNGs of declared figures, in the order of the page; see `registry`.
        out: index.html.
        title: the heading.
        scores: (index.csv, scores.h5) of each dataset and method of the gallery; without any there is no gallery.
        gallery: images of each dataset, class and method in it, at most; 0 for no gallery.

    Raises:
        InputError: a figure is missing or has the name of none, the table is none, or scores and index do not belong
            together.
    """
    fragment = _table(table)
    views = read_gallery(scores, gallery) if gallery else {}
    environment = Environment(loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, keep_trailing_newline=True)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # datasets and methods in the order given
    page = environment.get_template(TEMPLATE.name).render(
        title=title,
        style=Markup(STYLE.read_text(encoding="utf-8")),
        script=Markup(SCRIPT.read_text(encoding="utf-8")),
        warning=TINY_NOTE if TINY_NOTE in fragment else "",
        table=Markup(fragment),
        figures=[_embedded(path) for path in figures],
        gallery={name: asdict(view) for name, view in views.items()},
        count=gallery,
        heat_stops=", ".join(to_hex(COLOURS(value)) for value in np.linspace(0, 1, 9)),
    )
    write_text(out, page)
    logger.info(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def _table(path: Path) -> str:
    """Return the table of a document of `formats.to_document`, with the notes below it."""
    found = re.search(r"<table.*</table>.*</div>", read_text(path, "a table written by kanoclip tables"), re.DOTALL)
    if found is None:
        raise InputError(f"{path}: expected a table written by kanoclip tables, found none; run it")
    return found[0]


def _embedded(path: Path) -> Embedded:
    """Return a figure with the title and the caption that it is declared with.

    Raises:
        InputError: it is missing, or its name is not that of a figure.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such figure; draw it with `kanoclip figure`")
    figure, of = of_file(path)
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return Embedded(path.stem, figure.title_of(of), figure.caption, data)
