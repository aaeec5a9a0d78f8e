"""How a table is written: plain, Markdown, LaTeX, HTML."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Style:
    """How a rendering writes a cell: patterns with {} for the text, and the signs for ± and †."""

    best: str
    second: str
    plus_minus: str = "±"
    dagger: str = "†"


PLAIN = Style(best="{}", second="{}")
MARKDOWN = Style(best="**{}**", second="<u>{}</u>")
LATEX = Style(best=r"\textbf{{{}}}", second=r"\underline{{{}}}", plus_minus=r"$\pm$", dagger=r"$^\dagger$")
HTML = Style(best="<b>{}</b>", second="<u>{}</u>")


def to_markdown(table: pd.DataFrame, lines: Sequence[str]) -> str:
    """The table (of style MARKDOWN) in Markdown, its notes beneath."""
    return flat(table).to_markdown(disable_numparse=True) + "\n\n" + "  \n".join(lines) + "\n"


def to_latex(table: pd.DataFrame, lines: Sequence[str]) -> str:
    """The table (of style LATEX) for LaTeX with the package booktabs, its notes beneath."""
    named = table.rename(index=_tex, columns=_tex).rename_axis(index=None)
    tabular = named.to_latex(escape=False, multicolumn_format="c", column_format="l" + "c" * table.shape[1])
    beneath = "\\\\\n".join(_tex(line) for line in lines)
    return f"% needs \\usepackage{{booktabs}}\n{tabular}\n\\smallskip\\par\n{{\\footnotesize\n{beneath}\\par}}\n"


def to_html(table: pd.DataFrame, lines: Sequence[str]) -> str:
    """The table (of style HTML) as an HTML fragment, its notes beneath."""
    named = table.rename(index=html.escape, columns=html.escape).rename_axis(index=None)
    beneath = "".join(f"<p>{html.escape(line)}</p>\n" for line in lines)
    return f'{named.to_html(escape=False, border=0, classes="main")}\n<div class="notes">\n{beneath}</div>\n'


def flat(table: pd.DataFrame) -> pd.DataFrame:
    """One line of column names, "dataset metric", instead of two."""
    return table.set_axis([" ".join(column) for column in table.columns], axis="columns")


def _tex(text: str) -> str:
    """Text with LaTeX's special characters written out."""
    escapes = {character: f"\\{character}" for character in "&%$#_{}"} | {"±": r"$\pm$", "†": r"$^\dagger$"}
    return "".join(escapes.get(character, character) for character in text)


def to_document(fragment: str) -> str:
    """A fragment of `to_html` as a page of its own."""
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Main table</title>\n'
        "<style>body{font:15px sans-serif;margin:1.5em} th,td{padding:.3em .8em;text-align:center} "
        "tbody th{text-align:left;font-weight:normal} "
        f"p{{color:#444;margin:.2em 0}}</style>\n{fragment}</html>\n"
    )
