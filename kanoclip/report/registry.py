"""The registry of figures, read from their declarations without importing the drawing code.

A figure is one function in a module of `report.figures`, with the decorator `figure`:

    @figure(per="target", place=60, category="Diagnostics")
    def histograms(index: Path, scores: Sequence[Path], out: Path) -> None:
        '''Image scores.

        Image scores of normal (filled) and anomalous (hatched) images, one row per class ...
        '''

The figure has the name of the function. The first line of the docstring is the title, and the paragraphs up to the
arguments are the caption. The parameters besides `out` are its inputs, from `INPUTS`. The command, the rule, the entry
in Snakemake's report and the section of the page are derived from this declaration.

Declarations are read from the source, so the workflow knows every figure without loading matplotlib. A caption is a
docstring, so editing it does not change the code that draws.
"""

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeVar

from kanoclip.types import InputError, unknown_name

FOLDER = Path(__file__).with_name("figures")
Draw = TypeVar("Draw", bound=Callable[..., None])
Per = Literal["run", "target", "ablation", "nothing"]

INPUTS = {
    "index": "index.csv of the dataset",
    "scores": "scores.h5 of each method on the dataset; the first picks the images",
    "pairs": "INDEX=SCORES of each dataset, by one method",
    "curves": "METHOD=CURVES_CSV of each method and seed",
    "logs": "METHOD=TRAIN_CSV of each method and seed",
    "metrics": "the long-format metrics.csv of `kanoclip tables`",
    "methods": "a row of the tables",
    "datasets": "a column of the tables",
    "train": "train.csv of `kanoclip pretrain`",
    "validation": "validation.csv of `kanoclip pretrain`",
}
"""The inputs of figures: parameter name to meaning."""


@dataclass(frozen=True)
class Figure:
    """A declared figure.

    Attributes:
        name: name of the function, in commands and file names.
        module: in `report.figures`.
        title: without the full stop.
        caption: one paragraph of plain text.
        inputs: names of the parameters without a default, besides `out`; keys of `INPUTS`.
        per: "run", "target" or "ablation", for each of which there is one figure; "nothing" for a figure outside runs.
        place: order on the page.
        category: in Snakemake's report.
        least: fewest values of an input with which the figure is drawn; 1 for inputs not listed.
    """

    name: str
    module: str
    title: str
    caption: str
    inputs: tuple[str, ...]
    per: Per = "nothing"
    place: int = 0
    category: str = "Results"
    least: Mapping[str, int] = field(default_factory=dict)

    def file_name(self, of: str | None = None) -> str:
        """Return the name of its files without a suffix; `of` is the target, the ablation or a wildcard."""
        return self.name if of is None else f"{self.name}_{of}"

    def title_of(self, of: str | None = None) -> str:
        """Return its title on the page."""
        return self.title if of is None else f"{self.title}: {of}"

    def can_be_drawn(self, given: Mapping[str, Any]) -> bool:
        """Return whether each input has enough values."""
        return all(len(given.get(name, ())) >= self.least.get(name, 1) for name in self.inputs)

    def draw(self, given: Mapping[str, Any], out: Path) -> None:
        """Draw the figure.

        Args:
            given: inputs by name; others than those of the figure are ignored.
            out: the PNG; a PDF and an SVG are written beside it.

        Raises:
            InputError: an input is missing.
        """
        for name in self.inputs:
            if not given.get(name):
                raise InputError(f"figure {self.name}: expected --{name}, found none; give {INPUTS[name]}")
        function = getattr(import_module(f"kanoclip.report.figures.{self.module}"), self.name)
        function(**{name: given[name] for name in self.inputs}, out=out)


def figure(
    *, per: Per = "nothing", place: int = 0, category: str = "Results", least: Mapping[str, int] | None = None
) -> Callable[[Draw], Draw]:
    """Declare that the decorated function draws a figure; see `Figure` for the values, which must be literals.

    The decorator only marks the function; `figures` reads the mark from the source.
    """
    return lambda function: function


@cache
def figures() -> dict[str, Figure]:
    """Return every figure by name, in the order of the page.

    Raises:
        ValueError: a declaration lacks its title or caption, or names an unknown input.
    """
    found = [declared for path in sorted(FOLDER.glob("*.py")) for declared in declarations(path)]
    return {declared.name: declared for declared in sorted(found, key=lambda declared: declared.place)}


def named(name: str) -> Figure:
    """Return a figure by its name.

    Raises:
        InputError: there is no such figure; the message suggests the nearest name.
    """
    if name not in figures():
        raise unknown_name("figure", name, figures())
    return figures()[name]


def of_file(path: Path) -> tuple[Figure, str | None]:
    """Return the figure in a file, and the target or ablation that it shows.

    Raises:
        InputError: the file is not named after a figure.
    """
    for declared in sorted(figures().values(), key=lambda declared: -len(declared.name)):  # the longest matching name
        if f"{path.stem}_".startswith(f"{declared.name}_"):
            return declared, path.stem[len(declared.name) + 1 :] or None
    raise InputError(f"{path}: no figure has this name; expected one that begins with {', '.join(figures())}")


def declarations(path: Path) -> list[Figure]:
    """Return the figures that a module declares, without importing it.

    Raises:
        ValueError: a declaration lacks its title or caption, or names an unknown input.
    """
    functions = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    return [
        _declaration(path, function, mark)
        for function in functions
        for mark in function.decorator_list
        if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == figure.__name__
    ]


def _declaration(path: Path, function: ast.FunctionDef, mark: ast.Call) -> Figure:
    title, _, rest = inspect.cleandoc(ast.get_docstring(function) or "").partition("\n\n")
    caption = " ".join(rest.partition("Args:")[0].split())
    parameters = [parameter.arg for parameter in function.args.args]
    required = parameters[: len(parameters) - len(function.args.defaults)]
    inputs = tuple(name for name in required if name != "out")
    if not (title and caption and set(inputs) <= INPUTS.keys()):
        raise ValueError(f"{path}, {function.name}: a figure needs a title, a caption and inputs among {set(INPUTS)}")
    values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in mark.keywords}
    return Figure(function.name, path.stem, title.rstrip("."), caption, inputs, **values)
