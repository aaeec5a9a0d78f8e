"""Read scores.h5 together with the index.csv that it was made from, without torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import pandas as pd

from kanoclip.datasets.index import content, read_index
from kanoclip.hdf5 import SEAL, check_seal, open_hdf5, reading
from kanoclip.types import InputError

KIND, REMEDY = "scores written by kanoclip score", "score again"
SEALED = ("image", "class_name", "image_score")


@contextmanager
def scored_index(scores: Path, index: Path) -> Iterator[tuple[pd.DataFrame, h5py.File]]:
    """Open scores.h5 and read its index; their rows correspond.

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
        try:
            yield rows, file
        except OSError as error:
            if error.errno is not None:  # an error of another file: HDF5's own errors have no number
                raise
            raise InputError(f"{scores}: damaged ({' '.join(str(error).split())}); {REMEDY}") from error


@contextmanager
def open_scores(scores: Path, rows: pd.DataFrame, index: Path) -> Iterator[h5py.File]:
    """Open scores.h5 for an index that has been read.

    Args:
        scores: scores.h5 of one method, target dataset and seed.
        rows: the test rows of the index.
        index: their index.csv, for messages.

    Yields:
        The open file; its row i is row i of `rows`.

    Raises:
        InputError: the file is missing, damaged or of another kind, or does not list the same images in the same order.
    """
    existing(scores)
    with open_hdf5(scores, KIND, REMEDY) as file:
        with reading(scores, KIND, REMEDY):
            if SEAL in file.attrs:  # scores written by other programs have none
                check_seal(file, SEALED, scores, REMEDY)
            scored = file["image"].asstr()[:].tolist()
        if len(scored) != len(rows):
            raise InputError(f"{scores}: {len(scored)} images, {index} lists {len(rows)}; score again with this index")
        for row, (found, expected) in enumerate(zip(scored, rows["image"], strict=True)):
            if found != expected:
                raise InputError(
                    f"{scores}: row {row} is '{found}', in {index} it is '{expected}'; score again with this index"
                )
        with reading(scores, KIND, REMEDY):
            _check_kinds(file, len(rows))
        if file.attrs.get("content", content(rows)) != content(rows):
            raise InputError(f"{scores}: of other images, classes or labels than {index}; score again with this index")
        yield file


def attribute(scores: Path, name: str) -> str:
    """Return an attribute of a scores.h5, such as its method.

    Raises:
        InputError: the file or its attribute is missing.
    """
    with open_hdf5(scores, KIND, REMEDY) as file, reading(scores, KIND, REMEDY):
        return str(file.attrs[name])


def _check_kinds(file: h5py.File, count: int) -> None:
    """Raise ValueError or KeyError if a dataset or an attribute has an unexpected type or shape."""
    shapes = {"image_score": (count,), **({"map": (count, *file["map"].shape[1:])} if "map" in file else {})}
    for name, shape in shapes.items():
        found = file[name]
        if found.shape != shape or found.dtype.kind not in "fiu" or len(shape) not in (1, 3):
            raise ValueError(f"{name} has shape {found.shape} of {found.dtype}")
    for name, kind in (("sigma", float), ("image_size", int), ("seed", int)):
        kind(file.attrs.get(name, 0))
    for name in ("method", "dataset"):
        if not isinstance(file.attrs.get(name, ""), str):
            raise ValueError(f"{name} is not text")


def existing(scores: Path) -> None:
    """Refuse a path without scores."""
    if not scores.is_file():
        raise InputError(f"{scores}: no such scores; make them with `kanoclip score`")
