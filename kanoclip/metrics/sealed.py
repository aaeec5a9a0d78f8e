"""The digest in metrics.csv, which shows that a row was changed, lost or added after the evaluation.

Every row of an evaluation carries the digest of all its rows, so that the files of many evaluations can be put one
below the other. A file without the column is read without this check; to keep an edit, delete the column.
"""

import json

import pandas as pd

from kanoclip.files import text_digest
from kanoclip.metrics.registry import METRICS_COLUMNS, METRICS_KEYS, METRICS_NUMBERS

DIGEST = "digest"  # the last column of metrics.csv
METRICS_TYPES = dict.fromkeys((*METRICS_KEYS, "reason"), str) | {"seed": int} | dict.fromkeys(METRICS_NUMBERS, float)


def with_digest(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one evaluation with their digest.

    Args:
        frame: the METRICS_COLUMNS.
    """
    return frame.assign(**{DIGEST: _digest(frame)})


def first_changed(frame: pd.DataFrame) -> int | None:
    """Return the position of the first row whose digest is not that of all rows which carry it; None if there is none.

    Args:
        frame: the METRICS_COLUMNS and the digest; of any number of evaluations.
    """
    positions = frame.reset_index(drop=True).groupby(DIGEST, sort=False, dropna=False).indices
    changed = [found[0] for digest, found in positions.items() if digest != _digest(frame.iloc[found])]
    return int(min(changed)) if changed else None


def _digest(frame: pd.DataFrame) -> str:
    """Return the digest of rows: of their values, however a file writes them."""
    values = frame[METRICS_COLUMNS].astype(METRICS_TYPES).astype(str)
    return text_digest(json.dumps(values.to_numpy().tolist()))
