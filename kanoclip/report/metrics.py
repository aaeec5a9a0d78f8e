"""Read and write the long-format metrics.csv, from which all tables and figures are made."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kanoclip.files import whole
from kanoclip.metrics.registry import METRICS_COLUMNS, METRICS_KEYS, METRICS_NUMBERS, get_metric
from kanoclip.metrics.sealed import DIGEST, METRICS_TYPES, first_changed
from kanoclip.naming import printable
from kanoclip.tabular import read_csv
from kanoclip.types import InputError

REMEDY = "evaluate again"


def read_metrics(path: Path) -> pd.DataFrame:
    """Read a metrics.csv; missing values are NaN and have a reason.

    Raises:
        InputError: the columns are not those of a metrics.csv, a value is outside the range of its metric, or the rows
            do not fit their digest.
    """
    frame = read_csv(path, METRICS_COLUMNS, REMEDY, [DIGEST], dtype=str, keep_default_na=False)
    try:
        # Python's own conversion: that of pandas.read_csv may miss the last digit, which the digest notices
        frame = frame.replace({name: {"": "nan"} for name in METRICS_NUMBERS}).astype(METRICS_TYPES)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: expected numbers, found other text: {printable(str(error))}; {REMEDY}") from error
    for (level, name), values in frame.groupby(["level", "metric"])["value"]:
        try:
            known = get_metric(str(level), str(name))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        wrong = values[~(values.isna() | values.between(known.lowest, known.highest))]
        if not wrong.empty:
            raise InputError(
                f"{path}, line {wrong.index[0] + 2}: expected a {level} {name} from {known.lowest:g} to "
                f"{known.highest:g}, found {wrong.iloc[0]:g}; {REMEDY}"
            )
    if frame.empty:
        raise InputError(f"{path}: expected rows of an evaluation, found none; {REMEDY}")
    changed = first_changed(frame) if DIGEST in frame else None
    if changed is not None:
        raise InputError(
            f"{path}, line {changed + 2}: expected the rows of an evaluation, found rows that do not fit their "
            f"{DIGEST}; {REMEDY}, or delete the column {DIGEST} to keep a change"
        )
    unexplained = frame["value"].isna() & (frame["reason"] == "")
    if unexplained.any():
        raise InputError(
            f"{path}, line {int(unexplained.to_numpy().argmax()) + 2}: expected a value or a reason why there is none, "
            f"found neither; {REMEDY}"
        )
    return frame


def collect(metrics_files: Sequence[Path], out: Path) -> pd.DataFrame:
    """Concatenate metrics files in the given order into one long-format metrics.csv.

    It has no digests if one of the files has none.

    Raises:
        InputError: no file is given, or two files hold the same value.
    """
    if not metrics_files:
        raise InputError("no metrics files given; evaluate at least one method first")
    frames = [read_metrics(path) for path in metrics_files]
    digested = all(DIGEST in frame for frame in frames)
    columns = [*METRICS_COLUMNS, DIGEST] if digested else METRICS_COLUMNS
    frame = pd.concat([frame[columns] for frame in frames], ignore_index=True)
    if frame.duplicated(METRICS_KEYS).any():
        twice = frame[frame.duplicated(METRICS_KEYS)].iloc[0]
        raise InputError(f"metrics files: {', '.join(f'{key} {twice[key]}' for key in METRICS_KEYS)} is given twice")
    with whole(out) as temporary:
        frame.to_csv(temporary, index=False)
    return frame
