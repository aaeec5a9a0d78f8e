"""Write tables as plain text, Markdown, LaTeX and HTML."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kanoclip.files import write_text

LONG = 50  # rows from which a LaTeX table may break across pages


@dataclass(frozen=True)
class Style:
    """The cell format of an output: patterns with {} for the text, and the signs for ±, † and ‡."""

    best: str
    second: str
    plus_minus: str = "±"
    dagger: str = "†"
    double_dagger: str = "‡"


PLAIN = Style(best="{}", second="{}")
MARKDOWN = Style(best="**{}**", second="<u>{}</u>")
LATEX = Style(
    best=r"\textbf{{{}}}",
    second=r"\underline{{{}}}",
    plus_minus=r"$\pm$",
    dagger=r"$^\dagger$",
    double_dagger=r"$^\ddagger$",
)
HTML = Style(best="<b>{}</b>", second="<u>{}</u>")


def write(path: Path, title: str, render: Callable[[Style], pd.DataFrame], lines: Sequence[str]) -> None:
    """Write a table as Markdown, LaTeX and HTML.

    Args:
        path: path of the three files without their suffix.
        title: title of the table.
        render: returns the table in a style.
        lines: the notes below the table.
    """
    write_text(path.with_name(f"{path.name}.md"), to_markdown(render(MARKDOWN), lines))
    write_text(path.with_name(f"{path.name}.tex"), to_latex(render(LATEX), lines))
    write_text(path.with_name(f"{path.name}.html"), to_document(to_html(render(HTML), lines), title))


def to_markdown(table: pd.DataFrame, lines: Sequence[str]) -> str:
    """Return a table (in style MARKDOWN) as Markdown, with its notes below."""
    labelled = _with_labels(table.rename(index=_markdown, columns=_markdown))
    one_line = [" ".join(column).strip() if isinstance(column, tuple) else column for column in labelled.columns]
    text = labelled.set_axis(one_line, axis="columns").to_markdown(disable_numparse=True, index=False)
    return text + "\n\n" + "  \n".join(map(_markdown, lines)) + "\n"


def to_latex(table: pd.DataFrame, lines: Sequence[str]) -> str:
    """Return a table (in style LATEX) for LaTeX with booktabs, with its notes below; a long one in small print."""
    long, labels = len(table) > LONG, table.index.nlevels
    tabular = (
        _with_labels(table.rename(index=_tex))
        .rename(columns=_tex)
        .to_latex(
            index=False,
            escape=False,
            longtable=long,
            multicolumn_format="c",
            column_format="l" * labels + "c" * table.shape[1],
        )
    )
    beneath = "\\\\\n".join(_tex(line) for line in lines)
    if long:
        tabular = f"{{\\footnotesize\\setlength{{\\tabcolsep}}{{3pt}}\n{tabular}}}\n"
    packages = "booktabs, longtable" if long else "booktabs"
    notes = f"\\smallskip\\par\n{{\\footnotesize\\noindent\n{beneath}\\par}}\n"
    return f"% needs \\usepackage{{{packages}}}\n{tabular}\n{notes}"


def to_html(table: pd.DataFrame, lines: Sequence[str]) -> str:
    """Return a table (in style HTML) as an HTML fragment, with its notes below."""
    named = table.rename(index=html.escape, columns=html.escape)
    if table.index.nlevels == 1:
        named = named.rename_axis(index=None)
    beneath = "".join(f"<p>{html.escape(line)}</p>\n" for line in lines)
    return f'{named.to_html(escape=False, border=0, classes="main")}\n<div class="notes">\n{beneath}</div>\n'


def to_document(fragment: str, title: str) -> str:
    """Return a fragment of `to_html` as a complete page."""
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        "<style>body{font:15px sans-serif;margin:1.5em} th,td{padding:.3em .8em;text-align:center} "
        "tbody th{text-align:left;font-weight:normal;vertical-align:top} "
        f"p{{color:#444;margin:.2em 0}}</style>\n{fragment}</html>\n"
    )


def _with_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its row labels as leading columns, and the label of each group only once."""
    every = table.index.to_frame(index=False)
    labels = every.copy()
    for level in range(table.index.nlevels - 1):
        labels.iloc[:, level] = every.iloc[:, level].mask(every.iloc[:, : level + 1].duplicated(), "")
    if table.columns.nlevels > 1:
        labels.columns = pd.MultiIndex.from_tuples([("", name) for name in labels.columns])
    return pd.concat([labels, table.reset_index(drop=True)], axis="columns")


def _markdown(text: str) -> str:
    """Return text with the characters escaped that Markdown would read as a cell, a line or HTML."""
    return " ".join(text.replace("\\", "\\\\").replace("|", r"\|").replace("<", "&lt;").split())


def _tex(text: str) -> str:
    """Return text with LaTeX's special characters escaped."""
    escapes = {character: f"\\{character}" for character in "&%$#_{}"}
    escapes |= {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    escapes |= {"|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}", "\n": " "}
    escapes |= {"±": r"$\pm$", "†": r"$^\dagger$", "‡": r"$^\ddagger$"}
    escapes |= {"§": r"\textsuperscript{\S}", "¶": r"\textsuperscript{\P}"}
    return "".join(escapes.get(character, character) for character in text)
