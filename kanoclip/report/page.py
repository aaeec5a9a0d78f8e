"""Write index.html, the report to open first: main table, gallery and figures in one file that works offline."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib.colors import to_hex

from kanoclip.files import read_text, write_text
from kanoclip.report.embedding import groups_of
from kanoclip.report.gallery import MORE, count_of, read_gallery
from kanoclip.report.heat import COLOURS
from kanoclip.report.metrics import read_metrics
from kanoclip.report.notes import MISSING, TINY_NOTE
from kanoclip.report.opening import opening
from kanoclip.types import InputError, logger

TEMPLATE = Path(__file__).with_name("page.html.j2")
STYLE, SCRIPT = TEMPLATE.with_name("page.css"), TEMPLATE.with_name("page.js")


def write_page(
    table: Path,
    figures: Sequence[Path],
    out: Path,
    title: str,
    scores: Sequence[tuple[Path, Path]] = (),
    gallery: int = 12,
    metrics: Path | None = None,
    hidden: Sequence[str] = (),
) -> None:
    """Write index.html and log its size.

    Args:
        table: main.html of `tables.write_tables`.
        figures: the PNGs of declared figures, in the order of the page; see `registry`.
        out: index.html.
        title: the heading.
        scores: (index.csv, scores.h5) of each dataset and method of the gallery, which opens on the last method;
            empty for no gallery.
        gallery: most images per dataset, class and method (see `read_gallery`); 0 for no gallery.
        metrics: the long-format metrics.csv, which chooses the first class of the gallery; None for the first in order.
        hidden: rows of the table that are not in the figures and the gallery; the page names them.

    Raises:
        InputError: a figure is missing or has an unknown name, the table file is not a table, or scores and index do
            not match.
    """
    fragment = _table(table)
    views = read_gallery(scores, gallery) if gallery else {}
    first = opening(views, read_metrics(metrics) if metrics else None) if views else None
    count = count_of(len(next(iter(views.values())).methods), gallery) if views else 0
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, trim_blocks=True, keep_trailing_newline=True
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # datasets and methods in the order given
    page = environment.get_template(TEMPLATE.name).render(
        title=title,
        style=Markup(STYLE.read_text(encoding="utf-8")),
        script=Markup(SCRIPT.read_text(encoding="utf-8")),
        warning=TINY_NOTE if TINY_NOTE in fragment else "",
        hidden=hidden,
        table=Markup(_shown(fragment)),
        groups=groups_of(figures),
        first=first,
        gallery={"opens": asdict(first), "datasets": {name: asdict(view) for name, view in views.items()}}
        if first
        else None,
        count=count,
        more=MORE * count,
        heat_stops=", ".join(to_hex(COLOURS(value)) for value in np.linspace(0, 1, 9)),
    )
    write_text(out, page)
    logger.info(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def _table(path: Path) -> str:
    """Return the table and its notes from a document of `formats.to_document`."""
    found = re.search(r"<table.*</table>.*</div>", read_text(path, "a table written by kanoclip tables"), re.DOTALL)
    if found is None:
        raise InputError(f"{path}: expected a table written by kanoclip tables, found none; run it")
    return found[0]


def _shown(fragment: str) -> str:
    """Return a table in a scrolling frame, with its notes; without any number only the notes, which say why."""
    table, notes = fragment.split("</table>", 1)
    if set(re.findall(r"<td>(.*?)</td>", table)) <= {MISSING}:
        return f"<p>There is no number to show.</p>{notes}"
    return f'<div class="scroll" role="region" aria-labelledby="table" tabindex="0">\n{table}</table></div>{notes}'
