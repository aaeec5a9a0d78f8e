"""The index of a dataset: a CSV file with one row per image, its labels, and digests of the files it names."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from kanoclip.datasets.images import DIGEST_DIGITS, digest, load_image
from kanoclip.datasets.masks import load_mask
from kanoclip.datasets.safe_open import read_file
from kanoclip.files import whole
from kanoclip.naming import check_class_name, printable
from kanoclip.tabular import read_csv
from kanoclip.types import InputError

__all__ = ["GOOD", "INDEX_COLUMNS", "UNLABELLED", "content", "load_image", "load_mask", "read_index", "write_index"]

INDEX_COLUMNS = ["image", "mask", "class_name", "label", "defect", "split"]
DIGEST_COLUMNS = ["image_digest", "mask_digest"]  # of the bytes of the two files; "" if there is no mask
SPLITS = ("train", "test")
GOOD = "good"  # the defect of a normal image
UNLABELLED = "unlabelled"  # the defect of an image whose label is not known


def write_index(frame: pd.DataFrame, path: Path) -> None:
    """Write an index whole or not at all, with its rows in an order that depends on their content alone.

    Args:
        frame: the columns of `INDEX_COLUMNS`; image and mask relative to the folder of `path`, label 0, 1 or -1 (not
            known, an empty cell in the file); optionally those of `DIGEST_COLUMNS`, otherwise every image and mask is
            read to compute them.
        path: the index.csv to write.

    Raises:
        InputError: the digests are missing and a file cannot be read.
    """
    if not set(DIGEST_COLUMNS) <= set(frame.columns):
        frame = frame.assign(
            image_digest=[digest(read_file(file)) for file in _absolute(frame["image"], path)],
            mask_digest=[digest(read_file(file)) if file else "" for file in _absolute(frame["mask"], path)],
        )
    rows = frame[INDEX_COLUMNS + DIGEST_COLUMNS].sort_values(["class_name", "split", "label", "image"], kind="stable")
    rows["label"] = rows["label"].astype(object).where(rows["label"] >= 0, "")
    with whole(path) as temporary:
        rows.to_csv(temporary, index=False, lineterminator="\n")


def read_index(path: Path, split: str = "test") -> pd.DataFrame:
    """Read one split of an index and find its files.

    Args:
        path: an index.csv.
        split: "train" or "test".

    Returns:
        The rows of that split, numbered from 0, with the columns of `INDEX_COLUMNS` (label 1 anomalous, 0 normal, -1
        not known; mask "" where there is none), those of `DIGEST_COLUMNS`, and `image_path`, `mask_path`: absolute,
        mask_path "" where there is no mask.

    Raises:
        InputError: the file is missing, is not an index, or holds no row of that split.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such index; make it with `kanoclip prepare`")
    frame = read_csv(path, None, "prepare the dataset again", dtype=str, keep_default_na=False)
    _check_columns(list(frame.columns), path)
    _check_values(frame, path)
    frame = frame[frame["split"] == split].reset_index(drop=True)
    if frame.empty:
        raise InputError(f"{path}: no row of the split '{split}'")
    frame["label"] = frame["label"].replace("", "-1").astype(int)
    for column in ("image", "mask"):
        frame[f"{column}_path"] = _absolute(frame[column], path)
    return frame


def content(frame: pd.DataFrame) -> str:
    """Return the SHA-256 of the content of a dataset; it changes with any image, mask or label.

    It covers the rows in order: the relative image names (results list them), class names, labels, defects, and the
    digests of both files. It does not cover absolute paths or modification times.

    Args:
        frame: rows from `read_index`.
    """
    columns = ["image", "class_name", "label", "defect", *DIGEST_COLUMNS]
    return hashlib.sha256(json.dumps(frame[columns].astype(str).to_numpy().tolist()).encode()).hexdigest()


def _absolute(names: Iterable[str], index: Path) -> list[str]:
    """Return the absolute paths of files that an index names; "" stays ""."""
    folder = index.resolve().parent
    return [os.path.normpath(folder / name) if name else "" for name in names]


def _check_columns(found: list[str], path: Path) -> None:
    """Refuse a file with other columns than an index has."""
    if found == INDEX_COLUMNS:
        raise InputError(
            f"{path}: expected the columns {','.join(DIGEST_COLUMNS)} too, found an index of an older version; "
            "prepare the dataset again"
        )
    expected = INDEX_COLUMNS + DIGEST_COLUMNS
    if found != expected:
        raise InputError(
            f"{path}: expected the columns {','.join(expected)}, found {','.join(found)}; prepare the dataset again"
        )


def _is_class_name(name: str) -> bool:
    try:
        return bool(check_class_name(name))
    except ValueError:
        return False


def _check_values(frame: pd.DataFrame, path: Path) -> None:
    """Refuse the first row with an invalid value; lines are numbered as in an editor."""
    is_digest = frame[DIGEST_COLUMNS].apply(lambda column: column.str.fullmatch(f"[0-9a-f]{{{DIGEST_DIGITS}}}"))
    wrong = {
        "image": frame["image"] == "",
        "class_name": ~frame["class_name"].map(_is_class_name).astype(bool),
        "label": ~frame["label"].isin(["0", "1", ""]),
        "split": ~frame["split"].isin(SPLITS),
        "image_digest": ~is_digest["image_digest"],
        "mask_digest": ~is_digest["mask_digest"].where(frame["mask"] != "", frame["mask_digest"] == ""),
    }
    # the same image may belong to several classes, but only once to each
    wrong["image (it is listed twice)"] = frame.duplicated(["image", "class_name", "split"])
    for column, rows in wrong.items():
        if rows.any():
            row = int(rows.to_numpy().argmax())
            value = printable(frame[column.split()[0]][row])
            raise InputError(f"{path}, line {row + 2}: '{value}' is not a valid {column}; prepare the dataset again")
