"""Read CSV files, or say in one line what is wrong with them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kanoclip.files import read_text
from kanoclip.naming import printable
from kanoclip.types import InputError


def read_csv(
    path: Path, columns: Sequence[str] | None, remedy: str, optional: Sequence[str] = (), **options: Any
) -> pd.DataFrame:
    """Read a table.

    Args:
        path: the CSV file.
        columns: that it must have, in this order; None takes any.
        remedy: what to do if it is not as expected, e.g. "evaluate again".
        optional: columns that may follow, all of them or none.
        options: keyword arguments of `pandas.read_csv`.

    Raises:
        InputError: the file is missing, damaged or another kind of file, has other columns, or a value of another type.
    """
    text = read_text(path, "a table in CSV")
    try:
        frame = pd.read_csv(io.StringIO(text), **options)
    except (ValueError, OverflowError, IndexError) as error:  # ParserError and EmptyDataError are ValueErrors
        raise InputError(
            f"{path}: expected a table in CSV, found another: {printable(str(error))}; {remedy}"
        ) from error
    found = [str(column) for column in frame.columns]
    if columns is not None and found not in (list(columns), [*columns, *optional]):
        raise InputError(
            f"{path}: expected the columns {','.join(columns)}, found {printable(','.join(found))}; {remedy}"
        )
    return frame
