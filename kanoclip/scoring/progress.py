"""The scores of one row and seed while a pass runs: written batch by batch, then made into scores.h5."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kanoclip import __version__
from kanoclip.files import whole
from kanoclip.scoring.classes import AfterClass, Finished, finished
from kanoclip.types import InputError

CHUNK = 2**17  # bytes of maps compressed together
ROWS_AT_ONCE = 64  # images copied into scores.h5 at once


class ScoresInProgress:
    """Maps and scores of N images in memory-mapped files, so that a killed pass goes on and memory stays small.

    Args:
        folder: of the files; those of an earlier process are taken up.
        frame: the index that is scored.
    """

    def __init__(self, folder: Path, frame: pd.DataFrame):
        self.folder, self.frame = folder, frame
        self._scores = self._array("image_score", (len(frame),), np.float32)
        self._done = self._array("done", (len(frame),), np.bool_)
        self._seconds = self._array("seconds", (1,), np.float64)
        self._maps: NDArray[np.float32] | None = None

    def lacks(self, rows: range) -> bool:
        """Return whether an image of these rows is not scored yet."""
        return not self._done[rows.start : rows.stop].all()

    @property
    def seconds(self) -> float:
        """The time that the method took so far, all processes together."""
        return float(self._seconds[0])

    def write(self, rows: range, maps: NDArray[np.float32], scores: NDArray[np.float32], seconds: float) -> None:
        """Keep the scores of some images.

        Args:
            rows: of the index.
            maps: (B, h, w).
            scores: (B,).
            seconds: that the method took.

        Raises:
            InputError: a value is not finite.
        """
        for name, values in {"map": maps, "image_score": scores}.items():
            finite = np.isfinite(values).reshape(len(values), -1).all(1)
            if not finite.all():
                path = self.frame["image_path"].iloc[rows.start + int(np.argmin(finite))]
                raise InputError(f"{path}: its {name} is not finite")
        if self._maps is None:
            self._maps = self._array("map", (len(self.frame), *maps.shape[1:]), np.float32)
        self._maps[rows.start : rows.stop] = maps
        self._scores[rows.start : rows.stop] = scores
        self._seconds[0] += seconds
        self._done[rows.start : rows.stop] = True

    def finish(self, path: Path, attributes: dict[str, Any], after_class: AfterClass) -> None:
        """Write scores.h5 when all images are scored; arguments as of `write_scores` and `finished`."""
        maps = np.load(self.folder / "map.npy", mmap_mode="r")
        write_scores(path, finished(maps, self._scores, self.frame, after_class), self.frame, attributes)

    def _array(self, name: str, shape: tuple[int, ...], kind: type) -> NDArray[Any]:
        """Open an array of an earlier process, or begin a new one filled with zeros."""
        path = self.folder / f"{name}.npy"
        if path.is_file():
            found = np.load(path, mmap_mode="r+")
            if found.shape == shape and found.dtype == kind:
                return found
        with whole(path) as temporary:
            np.lib.format.open_memmap(temporary, "w+", kind, shape).flush()
        return np.load(path, mmap_mode="r+")


def write_scores(
    path: Path,
    scores: Finished,
    frame: pd.DataFrame,
    attributes: dict[str, Any],
) -> None:
    """Write scores.h5, whole or not at all. Equal scores give equal bytes.

    Args:
        path: the file.
        scores: of its images.
        frame: the index that was scored.
        attributes: method, backbone, auxiliary, dataset, seed, sigma, image_size; the version is added.
    """
    maps = scores.maps
    rows = max(1, min(len(frame), CHUNK // maps[0].nbytes))
    with whole(path) as temporary, h5py.File(temporary, "w") as file:
        for column in ("image", "class_name"):
            file[column] = np.array(frame[column].tolist(), dtype=h5py.string_dtype())
        file["image_score"] = scores.image_score
        # maps at mask resolution (the oracle's) would be large without compression
        stored = file.create_dataset(
            "map", maps.shape, np.float32, chunks=(rows, *maps.shape[1:]), compression=1, shuffle=True
        )
        for start, stop in _slices(len(frame), max(rows, ROWS_AT_ONCE // rows * rows)):
            stored[start:stop] = scores.rows(start, stop)
        file.attrs.update({**attributes, "version": __version__})


def _slices(count: int, size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size, count)) for start in range(0, count, size))
