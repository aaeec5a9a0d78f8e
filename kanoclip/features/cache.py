"""The feature cache: one HDF5 file per (dataset, backbone), written once, read by every method and epoch.

Layout: `image` (N,), names as in index.csv; one dataset per tap, under its name (`vv/24`, `cls/24`, `windows/2`, ...),
in fp16 with one chunk per image; and `checksum/<tap>` (N,), the CRC-32 of each row, verified on every read. An
unfinished file is called `<name>.partial`, and `done` (N,) marks its finished images.

All space is allocated when the file is created, so that neither a killed process nor a full disk corrupts its
structure. HDF5's own checksums would need chunks that are allocated later, so we store our own.
"""

import errno
import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.provenance import backbone_difference
from kanoclip.backbones.taps import Features, Tap
from kanoclip.code_digest import digest
from kanoclip.datasets.index import content, read_index
from kanoclip.datasets.integrity import check_unchanged
from kanoclip.features.live import LiveFeatures
from kanoclip.features.source import Rows, as_cached
from kanoclip.files import reserve
from kanoclip.hdf5 import DAMAGED, SEAL, UNSEALED, check_seal, open_hdf5, reading, row_checksum, seal
from kanoclip.types import InputError, Progress, logger

FORMAT = 4
KIND, REMEDY = "a feature cache", "delete it and encode again"
MARGIN = 2**20  # bytes an HDF5 file needs beside its data


def encode(
    index: Path, backbone: Backbone, taps: Collection[Tap], out: Path, batch_size: int = 32, workers: int = 1
) -> None:
    """Encode a dataset's test split with the towers and cache the taps.

    An interrupted run is resumed with the same batches, so that the result is the same.

    Args:
        index: the dataset's index.csv.
        backbone: the frozen towers.
        taps: the taps to store.
        out: the file, which appears when all images are done.
        batch_size: images per forward pass.
        workers: threads that load images.

    Raises:
        InputError: no tower has a tap, an image is unreadable, or the disk has no space for the cache.
    """
    frame = read_index(index)
    live = LiveFeatures(frame, backbone, workers)
    live.require(taps, "encode")
    check_unchanged(frame)
    partial = out.with_name(f"{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    provenance = {**backbone.provenance(), "taps": sorted(map(str, taps)), "format": FORMAT}
    state = {
        "provenance": provenance,
        "config": backbone.config.model_dump(mode="json"),
        "content": content(frame),
        "batch_size": batch_size,
        "code": digest("kanoclip.features.cache"),
    }
    attributes = {name: json.dumps(value, sort_keys=True) for name, value in state.items()}
    try:
        with _open_partial(partial, attributes, frame["image"].tolist(), backbone, taps) as file:
            everything = _batches(len(frame), batch_size)
            todo = [rows for rows in everything if not file["done"][rows.start : rows.stop].all()]
            if len(todo) < len(everything):
                logger.info("%s: resumed, %d of %d images are done", partial, int(file["done"][:].sum()), len(frame))
            done = len(frame) - sum(map(len, todo))
            with Progress(f"encode {index.parent.name}", len(frame), "images", done) as bar:
                for rows, features in zip(todo, live.stream(todo, taps), strict=True):
                    _write(file, rows, features)
                    bar.update(len(rows))
            seal(file, _sealed(taps))
            file.flush()
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):  # space would not help
            raise
        raise InputError(
            f"{partial}: cannot write: {_reason(error)}; free space and run again, finished images are kept"
        ) from error
    partial.replace(out)
    logger.info("%s: %d images, %.1f MB", out, len(frame), out.stat().st_size / 1e6)


class FeatureCache:
    """A finished cache, opened for reading.

    Args:
        path: features.h5.
        frame: the index that it was made from.

    Attributes:
        provenance: provenance of its backbone.
        config: the backbone's configuration.
        taps: the taps it holds.

    Raises:
        InputError: the file is not a finished cache, or holds other images.
    """

    def __init__(self, path: Path, frame: pd.DataFrame):
        if not path.is_file():
            cut_off = path.with_name(f"{path.name}.partial").is_file()
            hint = "an encode was cut off; run it again to finish" if cut_off else "run kanoclip encode"
            raise InputError(f"{path}: expected a feature cache, found none; {hint}")
        self.path = path
        self._file = open_hdf5(path, KIND, REMEDY)
        with reading(path, KIND, REMEDY):
            self.provenance: dict[str, Any] = json.loads(self._file.attrs["provenance"])
            if self.provenance["format"] != FORMAT:
                raise InputError(f"{path}: expected a feature cache of format {FORMAT}, found another; encode again")
            self.config: dict[str, Any] = json.loads(self._file.attrs["config"])
            self.taps = frozenset(map(Tap.parse, self.provenance["taps"]))
            check_seal(self._file, _sealed(self.taps), path, REMEDY)
            self._checksums = {tap: self._file[f"checksum/{tap}"][:] for tap in self.taps}
            found = self._file["image"].asstr()[:].tolist()
            same = found == frame["image"].tolist() and json.loads(self._file.attrs["content"]) == content(frame)
        if not same:
            raise InputError(
                f"{path}: expected the {len(frame)} images of the index, found others or in another order; "
                "encode the dataset again"
            )

    def __len__(self) -> int:
        return len(self._file["image"])

    def require(self, backbone: dict[str, object], taps: Collection[Tap], wanted_by: str) -> None:
        """Refuse a cache made with another configuration.

        Args:
            backbone: the provenance of the backbone in use.
            taps: the taps to read.
            wanted_by: the reader, for the message.

        Raises:
            InputError: the first difference.
        """
        difference = backbone_difference(backbone, self.provenance)
        if difference:
            raise InputError(
                f"{self.path}: made with another configuration than {wanted_by} uses: {difference}; "
                "encode the dataset again with this backbone"
            )
        missing = sorted(set(taps) - self.taps)
        if missing:
            raise InputError(
                f"{self.path}: {wanted_by} needs the tap {missing[0]}, the cache holds "
                f"{', '.join(map(str, sorted(self.taps)))}; encode the dataset again"
            )

    def size_of(self, taps: Collection[Tap]) -> int:
        """Return the size in bytes of these taps for all images."""
        return sum(self._file[str(tap)].nbytes for tap in taps)

    def read(self, rows: Rows, taps: Collection[Tap]) -> Features:
        """Return the features of some rows in the given order, in fp16 on the CPU.

        Raises:
            InputError: the checksum of a row does not match.
        """
        with reading(self.path, KIND, REMEDY):
            return {tap: torch.from_numpy(np.stack([self._row(tap, row) for row in rows])) for tap in sorted(taps)}

    def _row(self, tap: Tap, row: int) -> NDArray[np.float16]:
        values = self._file[str(tap)][row]
        if row_checksum(values, row) != self._checksums[tap][row]:
            raise InputError(f"{self.path}: damaged: {tap} of image {row} is not what was written; {REMEDY}")
        return values


def _sealed(taps: Collection[Tap]) -> list[str]:
    return ["image", *(f"checksum/{tap}" for tap in sorted(taps))]


def _batches(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _open_partial(
    partial: Path, attributes: dict[str, str], images: list[str], backbone: Backbone, taps: Collection[Tap]
) -> h5py.File:
    """Return the unfinished cache: the one on disk if it was started with the same attributes, otherwise a new one."""
    try:
        file = h5py.File(partial, "r+")
        if {name: value for name, value in file.attrs.items() if name != SEAL} == attributes and "done" in file:
            return file
        file.close()
        logger.info("%s: begun with other images or another configuration; starting over", partial)
    except FileNotFoundError:
        pass
    except DAMAGED as error:
        if "lock" in str(error):
            raise InputError(f"{partial}: another process is encoding this dataset; wait for it or stop it") from error
        logger.info("%s: not readable; starting over", partial)
    return _create(partial, attributes, images, backbone, taps)


def _create(
    partial: Path, attributes: dict[str, str], images: list[str], backbone: Backbone, taps: Collection[Tap]
) -> h5py.File:
    partial.unlink(missing_ok=True)
    shapes = {str(tap): (len(images), *shape) for tap, shape in backbone.feature_shapes(taps).items()}
    beginning = partial.with_name(f".{partial.name}")
    try:
        # HDF5 cannot recover from a full disk, so the space is reserved with a plain file first
        beginning.touch()
        _reserve(beginning, sum(2 * int(np.prod(shape)) + 4 * shape[0] for shape in shapes.values()) + MARGIN)
        with h5py.File(beginning, "w") as file:
            for name, shape in shapes.items():
                file.create_dataset(name, shape, np.float16, chunks=(1, *shape[1:]), dcpl=_allocated_at_once())
                file.create_dataset(f"checksum/{name}", (len(images),), np.uint32, dcpl=_allocated_at_once())
            file.create_dataset("done", (len(images),), bool)
            file["image"] = np.array(images, dtype=h5py.string_dtype())
            file.attrs.update(attributes)
            file.attrs[SEAL] = UNSEALED
        _reserve(beginning, beginning.stat().st_size)
    except BaseException:
        beginning.unlink(missing_ok=True)
        raise
    beginning.replace(partial)
    return h5py.File(partial, "r+")


def _reserve(path: Path, size: int) -> None:
    """Reserve space on the disk for a file, or fail at once."""
    free = shutil.disk_usage(path.parent).free
    try:
        if size > free + path.stat().st_blocks * 512:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        reserve(path, size)
    except OSError as error:
        raise InputError(
            f"{path}: the cache needs {size / 1e9:.3g} GB: {error.strerror} ({free / 1e9:.3g} GB are free); "
            "free space and run again"
        ) from error


def _allocated_at_once() -> h5py.h5p.PropDCID:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return properties


def _write(file: h5py.File, rows: range, features: Features) -> None:
    """Write a batch, and mark it done after it has been flushed."""
    for tap, tensor in as_cached(features).items():
        values = tensor.cpu().numpy()
        file[str(tap)][rows.start : rows.stop] = values
        file[f"checksum/{tap}"][rows.start : rows.stop] = [
            row_checksum(one, row) for row, one in zip(rows, values, strict=True)
        ]
    file.flush()
    file["done"][rows.start : rows.stop] = True
    file.flush()


def _reason(error: OSError) -> str:
    return error.strerror or str(error).splitlines()[0]
