"""Read and write the long metrics.csv, from which all tables and figures are made."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kanoclip.files import whole
from kanoclip.metrics.registry import METRICS_COLUMNS, METRICS_KEYS, METRICS_NUMBERS, get_metric
from kanoclip.tabular import read_csv
from kanoclip.types import InputError

REMEDY = "evaluate again"


def read_metrics(path: Path) -> pd.DataFrame:
    """Read a metrics.csv; missing values are NaN and have a reason.

    Raises:
        InputError: the columns are not those of a metrics.csv, or a value is outside the range of its metric.
    """
    text = dict.fromkeys((*METRICS_KEYS, "reason"), str) | {"seed": int} | dict.fromkeys(METRICS_NUMBERS, float)
    missing = dict.fromkeys(METRICS_NUMBERS, [""])
    frame = read_csv(path, METRICS_COLUMNS, REMEDY, keep_default_na=False, na_values=missing, dtype=text)
    for (level, name), values in frame.groupby(["level", "metric"])["value"]:
        known = get_metric(str(level), str(name))
        wrong = values[~(values.isna() | values.between(known.lowest, known.highest))]
        if not wrong.empty:
            raise InputError(
                f"{path}, line {wrong.index[0] + 2}: expected a {level} {name} from {known.lowest:g} to "
                f"{known.highest:g}, found {wrong.iloc[0]:g}; {REMEDY}"
            )
    unexplained = frame["value"].isna() & (frame["reason"] == "")
    if unexplained.any():
        raise InputError(
            f"{path}, line {int(unexplained.to_numpy().argmax()) + 2}: expected a value or a reason why there is none, "
            f"found neither; {REMEDY}"
        )
    return frame


def collect(metrics_files: Sequence[Path], out: Path) -> pd.DataFrame:
    """Concatenate metrics files in the given order into one long metrics.csv.

    Raises:
        InputError: no file is given, or two files hold the same value.
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
