"""scores.h5 beside the index.csv it was made from; without torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import pandas as pd

from kanoclip.datasets.index import read_index
from kanoclip.types import InputError


@contextmanager
def scored_index(scores: Path, index: Path) -> Iterator[tuple[pd.DataFrame, h5py.File]]:
    """Open scores.h5 and read its index; row i of one is row i of the other.

    Args:
        scores: scores.h5 of one method, target dataset and seed.
        index: index.csv of the target dataset.

    Yields:
        The test rows of the index (see `read_index`) and the open file.

    Raises:
        InputError: the two do not list the same images in the same order.
    """
    existing(scores)
    rows = read_index(index)
    with open_scores(scores, rows, index) as file:
        yield rows, file


@contextmanager
def open_scores(scores: Path, rows: pd.DataFrame, index: Path) -> Iterator[h5py.File]:
    """Open scores.h5 after its index was read.

    Args:
        scores: scores.h5 of one method, target dataset and seed.
        rows: the test rows of the index.
        index: where they were read, for messages.

    Yields:
        The open file; its row i is row i of `rows`.

    Raises:
        InputError: there is no such file, it is not HDF5, or it does not list the same images in the same order.
    """
    existing(scores)
    try:
        opened = h5py.File(scores, "r")
    except OSError as error:
        raise InputError(f"{scores}: not a whole HDF5 file ({error}); score again") from error
    with opened as file:
        scored = list(file["image"].asstr()[:])
        if len(scored) != len(rows):
            raise InputError(f"{scores}: {len(scored)} images, {index} lists {len(rows)}; score again with this index")
        for row, (found, expected) in enumerate(zip(scored, rows["image"], strict=True)):
            if found != expected:
                raise InputError(
                    f"{scores}: row {row} is '{found}', in {index} it is '{expected}'; score again with this index"
                )
        yield file


def existing(scores: Path) -> None:
    """Refuse a path where no scores are."""
    if not scores.is_file():
        raise InputError(f"{scores}: no such scores; make them with `kanoclip score`")
