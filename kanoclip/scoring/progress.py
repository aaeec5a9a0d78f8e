"""Store the scores of one row and seed batch by batch during a pass, then write scores.h5."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kanoclip import __version__
from kanoclip.datasets.index import content
from kanoclip.files import reserve, whole
from kanoclip.hdf5 import row_checksum, seal, writing
from kanoclip.scoring.classes import AfterClass, Finished, finished
from kanoclip.types import InputError, logger

CHUNK = 2**17  # bytes of maps compressed together
ROWS_AT_ONCE = 64  # images copied into scores.h5 at once


class ScoresInProgress:
    """Maps and scores of N images in memory-mapped files, so that a killed pass can resume and memory stays small.

    Each row has a checksum; damaged rows of an earlier process are scored again.

    Args:
        folder: folder of the files; those of an earlier process are continued.
        frame: the index that is scored.
    """

    def __init__(self, folder: Path, frame: pd.DataFrame):
        self.folder, self.frame = folder, frame
        self._scores = self._array("image_score", (len(frame),), np.float32)
        self._checksums = self._array("checksum", (len(frame),), np.int64)  # 0 where an image is not scored
        self._seconds = self._array("seconds", (1,), np.float64)
        self._maps: NDArray[np.float32] | None = None
        self._drop_damaged()

    def lacks(self, rows: range) -> bool:
        """Return whether any image of these rows is not scored yet."""
        return not self._checksums[rows.start : rows.stop].all()

    @property
    def begun(self) -> bool:
        """Whether an image is scored already."""
        return bool(self._checksums.any())

    @property
    def seconds(self) -> float:
        """The method's computing time so far, over all processes."""
        return float(self._seconds[0])

    def write(self, rows: range, maps: NDArray[np.float32], scores: NDArray[np.float32], seconds: float) -> None:
        """Store the scores of some images.

        Args:
            rows: rows of the index.
            maps: (B, h, w).
            scores: (B,).
            seconds: computing time of the method.

        Raises:
            InputError: a value is not finite, or a map is not in 0..1.
        """
        check_values(maps, scores, self.frame["image_path"].iloc[rows.start : rows.stop].tolist())
        if self._maps is None:
            self._maps = self._array("map", (len(self.frame), *maps.shape[1:]), np.float32)
        self._maps[rows.start : rows.stop] = maps
        self._scores[rows.start : rows.stop] = scores
        self._seconds[0] += seconds
        self._checksums[rows.start : rows.stop] = [_checksum(self._maps[row], self._scores[row], row) for row in rows]

    def finish(self, path: Path, attributes: dict[str, Any], after_class: AfterClass) -> None:
        """Write scores.h5 when all images are scored; see `write_scores` and `finished` for the arguments."""
        maps = np.load(self.folder / "map.npy", mmap_mode="r")
        write_scores(path, finished(maps, self._scores, self.frame, after_class), self.frame, attributes)

    def _drop_damaged(self) -> None:
        """Discard the damaged rows of an earlier process."""
        done = np.flatnonzero(self._checksums)
        if not done.size:
            return
        try:
            maps = np.load(self.folder / "map.npy", mmap_mode="r")
            good = [_checksum(maps[row], self._scores[row], row) == self._checksums[row] for row in done.tolist()]
        except (OSError, ValueError, IndexError):  # no array, or a smaller one
            good = [False] * done.size
        bad = done[~np.array(good)]
        if bad.size:
            logger.warning("%s: %d images are not what was written; scoring them again", self.folder, bad.size)
            self._checksums[bad] = 0

    def _array(self, name: str, shape: tuple[int, ...], kind: type) -> NDArray[Any]:
        """Open an array of an earlier process, or create one filled with zeros."""
        path = self.folder / f"{name}.npy"
        with suppress(OSError, ValueError):  # it is missing or damaged
            found = np.load(path, mmap_mode="r+")
            if found.shape == shape and found.dtype == kind:
                return found
        with whole(path) as temporary:
            np.lib.format.open_memmap(temporary, "w+", kind, shape).flush()
            reserve(temporary, temporary.stat().st_size)  # else a full disk ends the process with SIGBUS
        return np.load(path, mmap_mode="r+")


def check_values(maps: NDArray[np.float32], scores: NDArray[np.float32], paths: Sequence[str]) -> None:
    """Refuse scores that are not finite, and maps that are not in 0..1, naming the first such image.

    Args:
        maps: (B, h, w).
        scores: (B,).
        paths: (B,) paths of the images.
    """
    for name, values in {"map": maps, "image_score": scores}.items():
        finite = np.isfinite(values).reshape(len(values), -1).all(1)
        if not finite.all():
            raise InputError(f"{paths[int(np.argmin(finite))]}: its {name} is not finite")
    inside = ((maps >= 0) & (maps <= 1)).all((1, 2))
    if not inside.all():
        at = int(np.argmin(inside))
        raise InputError(
            f"{paths[at]}: its map is not in 0..1, found {maps[at].min():.4g} to {maps[at].max():.4g}; `forward` must "
            "return probabilities"
        )


def _checksum(one: NDArray[np.float32], score: np.float32, row: int) -> int:
    """Return 1..2^32 for the map and the score of an image."""
    return row_checksum(np.append(one.ravel(), score), row) + 1


def write_scores(
    path: Path,
    scores: Finished,
    frame: pd.DataFrame,
    attributes: dict[str, Any],
) -> None:
    """Write scores.h5, whole or not at all. Equal scores give equal bytes.

    Args:
        path: the file.
        scores: the final scores.
        frame: the index that was scored.
        attributes: method, backbone, auxiliary, dataset, seed, sigma, image_size; the version and the digest of the
            index are added.
    """
    maps = scores.maps
    rows = max(1, min(len(frame), CHUNK // maps[0].nbytes))
    # from version 1.10 of its format HDF5 has checksums of its structure; of the values they are asked for below
    with writing(path, libver="v110") as file:
        for column in ("image", "class_name"):
            file[column] = np.array(frame[column].tolist(), dtype=h5py.string_dtype())
        file.create_dataset("image_score", data=scores.image_score, fletcher32=True)
        # maps at mask resolution (the oracle's) would be large without compression
        stored = file.create_dataset(
            "map",
            maps.shape,
            np.float32,
            chunks=(rows, *maps.shape[1:]),
            compression=1,
            shuffle=True,
            fletcher32=True,
        )
        for start, stop in _slices(len(frame), max(rows, ROWS_AT_ONCE // rows * rows)):
            stored[start:stop] = scores.rows(start, stop)
        file.attrs.update({**attributes, "content": content(frame), "version": __version__})
        seal(file, ("image", "class_name", "image_score"))


def _slices(count: int, size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size, count)) for start in range(0, count, size))
