"""The long metrics.csv, which is the truth behind every table and figure."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kanoclip.files import whole
from kanoclip.metrics.registry import METRICS_COLUMNS, METRICS_KEYS, METRICS_NUMBERS
from kanoclip.types import InputError


def read_metrics(path: Path) -> pd.DataFrame:
    """Read a metrics.csv; a missing value is NaN and has a reason.

    Raises:
        InputError: the columns are not those of a metrics.csv.
    """
    frame = pd.read_csv(path, keep_default_na=False, na_values=dict.fromkeys(METRICS_NUMBERS, [""]))
    if list(frame.columns) != METRICS_COLUMNS:
        raise InputError(f"{path}: expected the columns {','.join(METRICS_COLUMNS)}, found {','.join(frame.columns)}")
    return frame


def collect(metrics_files: Sequence[Path], out: Path) -> pd.DataFrame:
    """Put metrics files one below the other, in the order given, into one long metrics.csv.

    Raises:
        InputError: there is no file, or two files hold the same value.
    """
    if not metrics_files:
        raise InputError("no metrics files given; evaluate at least one method first")
    frame = pd.concat([read_metrics(path) for path in metrics_files], ignore_index=True)
    if frame.duplicated(METRICS_KEYS).any():
        twice = frame[frame.duplicated(METRICS_KEYS)].iloc[0]
        raise InputError(f"metrics files: {', '.join(f'{key} {twice[key]}' for key in METRICS_KEYS)} is given twice")
    with whole(out) as temporary:
        frame.to_csv(temporary, index=False)
    return frame
