"""What a user may call things: names appear in paths, in shell commands, in rules and in tables."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 60  # characters: a file name has 255, and some hold several names
RESERVED = {"none", "average", "mean"}  # in paths and tables they mean something else
PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
HIGHEST_SEED = 2**32 - 1  # NumPy's and torch's generators take it, and so do the seeds of epochs made from it


def check_name(name: str) -> str:
    """Return a name of a row, backbone, dataset or ablation.

    Raises:
        ValueError: it would be something else in a path, a shell command, a rule or a table.

    >>> check_name("clip-l14-518")
    'clip-l14-518'
    """
    if not PATTERN.fullmatch(name) or len(name) > LONGEST:
        raise ValueError(
            f"expected a name of at most {LONGEST} of the characters A-Z a-z 0-9 . _ + -, the first a letter or a digit"
        )
    if name.lower() in RESERVED:
        raise ValueError(f"the name '{name}' has another meaning in tables and paths; choose another")
    return name


def check_path(path: str) -> str:
    """Return a path that Snakemake takes as it is written.

    Raises:
        ValueError: it is empty, or has braces, which are wildcards, or control characters.
    """
    if not path or set("{}") & set(path) or not path.isprintable():
        raise ValueError("expected a path without braces and control characters")
    return path


def check_class_name(name: str) -> str:
    """Return the name of a class, which stands in prompts and tables.

    Raises:
        ValueError: it is empty, is not printable on one line, or is that of the mean over the classes.
    """
    if not name.strip() or not name.isprintable() or name == "mean":
        raise ValueError(f"{name!r} cannot be the name of a class: it is empty, not printable, or means the class mean")
    return name


def printable(text: str, longest: int = 200) -> str:
    """Return text on one line: what is not printable is written as an escape, and what is too long is cut."""
    shown = "".join(
        character
        if character.isprintable() and unicodedata.category(character) != "Cf"
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text[:longest]
    )
    return shown + "..." * (len(text) > longest)


Name = Annotated[str, AfterValidator(check_name)]
PlainPath = Annotated[str, AfterValidator(check_path)]
