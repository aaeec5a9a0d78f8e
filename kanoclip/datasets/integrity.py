"""Check that images and masks have not changed since their index was made."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from kanoclip.datasets.images import digest, read_file
from kanoclip.types import InputError

THREADS = 4  # at most; each holds the bytes of one file


def check_unchanged(frame: pd.DataFrame) -> None:
    """Read the files of some rows and compare them with the digests of the index.

    Modification times are not used: copying a dataset changes them, and restoring an old file may not.
    `benchmarks/integrity.py` measures the cost.

    Args:
        frame: rows from `read_index`.

    Raises:
        InputError: the first file that is missing or has changed since the dataset was prepared.
    """
    pairs: dict[str, str] = dict(zip(frame["image_path"], frame["image_digest"], strict=True))
    masked = frame[frame["mask_path"] != ""]
    pairs |= dict(zip(masked["mask_path"], masked["mask_digest"], strict=True))
    files: Sequence[tuple[str, str]] = list(pairs.items())
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        for path, same in zip(pairs, pool.map(_is_same, files), strict=True):
            if not same:
                raise InputError(f"{path}: changed since its dataset was prepared; prepare the dataset again")


def _is_same(file: tuple[str, str]) -> bool:
    path, expected = file
    return digest(read_file(Path(path))) == expected
