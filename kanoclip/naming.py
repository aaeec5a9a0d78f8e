"""Checks of user-given names, which appear in paths, shell commands, rules and tables."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 60  # characters: a file name has 255, and some hold several names
RESERVED = {"none", "average", "mean"}  # have another meaning in paths and tables
PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
HIGHEST_SEED = 2**32 - 1  # accepted by NumPy's and torch's generators, also for the epoch seeds derived from it


def check_name(name: str) -> str:
    """Check the name of a row, backbone, dataset or ablation, and return it.

    Raises:
        ValueError: it is not safe in paths, shell commands, rules and tables.

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
    """Check that Snakemake takes a path literally, and return it.

    Raises:
        ValueError: it is empty, or contains braces (wildcards) or control characters.
    """
    if not path or set("{}") & set(path) or not path.isprintable():
        raise ValueError("expected a path without braces and control characters")
    return path


def check_class_name(name: str) -> str:
    """Check the name of a class, which appears in prompts and tables, and return it.

    Raises:
        ValueError: it is empty, not printable on one line, or the name of the class mean.
    """
    if not name.strip() or not name.isprintable() or name == "mean":
        raise ValueError(f"{name!r} cannot be the name of a class: it is empty, not printable, or means the class mean")
    return name


def printable(text: str, longest: int = 200) -> str:
    """Return text on one line, with unprintable characters escaped and long text truncated."""
    shown = "".join(
        character
        if character.isprintable() and unicodedata.category(character) != "Cf"
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text[:longest]
    )
    return shown + "..." * (len(text) > longest)


Name = Annotated[str, AfterValidator(check_name)]
PlainPath = Annotated[str, AfterValidator(check_path)]
