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
    if not scores.is_file():
        raise InputError(f"{scores}: no such scores; make them with `kanoclip score`")
    rows = read_index(index)
    with h5py.File(scores, "r") as file:
        scored = list(file["image"].asstr()[:])
        if len(scored) != len(rows):
            raise InputError(f"{scores}: {len(scored)} images, {index} lists {len(rows)}; score again with this index")
        for row, (found, expected) in enumerate(zip(scored, rows["image"], strict=True)):
            if found != expected:
                raise InputError(
                    f"{scores}: row {row} is '{found}', in {index} it is '{expected}'; score again with this index"
                )
        yield rows, file
