"""The feature cache: one HDF5 file a dataset and backbone, written once, read by every method and epoch.

Layout: `image` (N,) names as in index.csv; then, in fp16 and one chunk an image, what `Backbone.feature_shapes` lists:
`cls` (N, W), `original/<tap>` and `local/<tap>` (N, 1 + P, W), `windows/<side>` (N, n, C), `pixels/<side>`
(N, 3, side, side). While it grows the file is called `<name>.partial` and `done` (N,) marks the finished images. All
its space is taken when the file is created, so that neither a killed process nor a full disk leaves its structure half
written.
"""

import errno
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.provenance import backbone_difference
from kanoclip.backbones.streams import ImageFeatures, Streams
from kanoclip.datasets.index import load_image, read_index
from kanoclip.types import InputError, logger, progress

FORMAT = 2
AHEAD = 2  # batches loaded before they are needed
MARGIN = 2**20  # bytes an HDF5 file needs beside its data


def encode(
    index: Path, backbone: Backbone, streams: Streams, out: Path, batch_size: int = 32, workers: int = 1
) -> None:
    """Run the image tower over a dataset's test split and cache what it says.

    A run that was cut off goes on where it stopped, in the same batches, so that the result is the same.

    Args:
        index: the dataset's index.csv.
        backbone: the frozen tower.
        streams: the taps to keep of each stream.
        out: the file to appear when all images are done.
        batch_size: images a forward.
        workers: threads that load images.

    Raises:
        InputError: an unreadable image, or no space for the cache.
    """
    frame = read_index(index)
    partial = out.with_name(f"{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    provenance = {**backbone.provenance(), "streams": vars(streams), "format": FORMAT}
    state = {"provenance": provenance, "files": _files_digest(frame), "batch_size": batch_size}
    attributes = {name: json.dumps(value, sort_keys=True) for name, value in state.items()}
    try:
        with _open_partial(partial, attributes, frame["image"].tolist(), backbone, streams) as file:
            todo = [rows for rows in _batches(len(frame), batch_size) if not file["done"][rows].all()]
            if len(todo) < len(_batches(len(frame), batch_size)):
                logger.info("%s: going on, %d of %d images are done", partial, int(file["done"][:].sum()), len(frame))
            for rows, pixels in zip(
                todo, progress(_pixels(frame, todo, backbone, workers), "encode", len(todo)), strict=True
            ):
                _write(file, rows, backbone.encode_images(pixels, streams))
    except OSError as error:
        raise InputError(
            f"{partial}: cannot write: {_reason(error)}; free space and run again, finished images are kept"
        ) from error
    partial.replace(out)
    logger.info("%s: %d images, %.1f MB", out, len(frame), out.stat().st_size / 1e6)


class FeatureCache:
    """A finished cache, opened for reading.

    Args:
        path: features.h5.
        images: the names that the rows must have, in order; from the index that goes with it.

    Raises:
        InputError: no finished cache, or one of other images.
    """

    def __init__(self, path: Path, images: Sequence[str]):
        if not path.is_file():
            cut_off = path.with_name(f"{path.name}.partial").is_file()
            hint = "an encode was cut off; run it again to finish" if cut_off else "run kanoclip encode"
            raise InputError(f"{path}: expected a feature cache, found none; {hint}")
        self.path = path
        self._file = h5py.File(path, "r")
        self.provenance = json.loads(self._file.attrs["provenance"])
        self.streams = Streams(**{name: tuple(taps) for name, taps in self.provenance["streams"].items()})
        found = self._file["image"].asstr()[:].tolist()
        if found != list(images):
            raise InputError(
                f"{path}: expected the {len(images)} images of the index, found {len(found)} others or in another "
                f"order; "
                "encode the dataset again"
            )

    def __len__(self) -> int:
        return len(self._file["cls"])

    def require(self, backbone: dict[str, object], streams: Streams, wanted_by: str) -> None:
        """Refuse a cache made with another configuration.

        Args:
            backbone: the provenance of the backbone in use.
            streams: the taps that will be read.
            wanted_by: who reads, for the message.

        Raises:
            InputError: the first difference.
        """
        difference = backbone_difference(backbone, self.provenance)
        if difference:
            raise InputError(
                f"{self.path}: made with another configuration than {wanted_by} uses: {difference}; "
                "encode the dataset again with this backbone"
            )
        if not self.streams.covers(streams):
            raise InputError(
                f"{self.path}: {wanted_by} needs {streams}, the cache holds {self.streams}; encode the dataset again"
            )

    def size_of(self, streams: Streams) -> int:
        """Bytes that the features of all images take."""
        names = ["cls", *(f"{name}/{key}" for name, keys in vars(streams).items() for key in keys)]
        return sum(self._file[name].nbytes for name in names)

    def read(self, rows: Sequence[int], streams: Streams) -> ImageFeatures:
        """Features of some rows, in the given order, fp16 on the CPU."""

        def take(name: str) -> Tensor:
            return torch.from_numpy(np.stack([self._file[name][row] for row in rows]))

        groups = {name: {key: take(f"{name}/{key}") for key in wanted} for name, wanted in vars(streams).items()}
        return ImageFeatures(take("cls"), **groups)


def _batches(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _pixels(frame: pd.DataFrame, batches: list[slice], backbone: Backbone, workers: int) -> Iterator[Tensor]:
    """(B, 3, S, S) a batch, loaded by threads while the tower computes; two batches are kept ready."""
    paths = frame["image_path"].tolist()

    def load(path: str) -> Tensor:
        return backbone.preprocess(load_image(path))

    with ThreadPoolExecutor(workers) as pool:
        ready: deque[list[Future[Tensor]]] = deque()
        try:
            for rows in batches:
                ready.append([pool.submit(load, path) for path in paths[rows]])
                if len(ready) > AHEAD:
                    yield torch.stack([image.result() for image in ready.popleft()])
            while ready:
                yield torch.stack([image.result() for image in ready.popleft()])
        finally:
            pool.shutdown(cancel_futures=True)


def _files_digest(frame: pd.DataFrame) -> str:
    """Changes when an image is added, removed, renamed or rewritten."""
    digest = hashlib.sha256()
    for name, path in zip(frame["image"], frame["image_path"], strict=True):
        try:
            status = Path(path).stat()
        except FileNotFoundError as error:
            raise InputError(
                f"{path}: the index names this image, but it is not there; prepare the dataset again"
            ) from error
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _open_partial(
    partial: Path, attributes: dict[str, str], images: list[str], backbone: Backbone, streams: Streams
) -> h5py.File:
    """The unfinished cache: the one on disk if it was begun with the same attributes, else a new one."""
    try:
        file = h5py.File(partial, "r+")
        if dict(file.attrs) == attributes:
            return file
        file.close()
        logger.info("%s: begun with other images or another configuration; starting over", partial)
    except FileNotFoundError:
        pass
    except OSError as error:
        if "lock" in str(error):
            raise InputError(f"{partial}: another process is encoding this dataset; wait for it or stop it") from error
        logger.info("%s: not readable; starting over", partial)
    return _create(partial, attributes, images, backbone, streams)


def _create(
    partial: Path, attributes: dict[str, str], images: list[str], backbone: Backbone, streams: Streams
) -> h5py.File:
    partial.unlink(missing_ok=True)
    shapes = {name: (len(images), *shape) for name, shape in backbone.feature_shapes(streams).items()}
    beginning = partial.with_name(f".{partial.name}")
    try:
        # HDF5 cannot recover from a full disk, so the space is tried with a plain file first and then kept
        beginning.touch()
        _reserve(beginning, sum(2 * int(np.prod(shape)) for shape in shapes.values()) + MARGIN)
        with h5py.File(beginning, "w") as file:
            for name, shape in shapes.items():
                file.create_dataset(name, shape, np.float16, chunks=(1, *shape[1:]), dcpl=_allocated_at_once())
            file.create_dataset("done", (len(images),), bool)
            file["image"] = np.array(images, dtype=h5py.string_dtype())
            file.attrs.update(attributes)
        _reserve(beginning, beginning.stat().st_size)
    except BaseException:
        beginning.unlink(missing_ok=True)
        raise
    beginning.replace(partial)
    return h5py.File(partial, "r+")


def _reserve(path: Path, size: int) -> None:
    """Take so many bytes of the disk for a file, or fail at once."""
    free = shutil.disk_usage(path.parent).free
    try:
        if size > free + path.stat().st_blocks * 512:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if hasattr(os, "posix_fallocate"):  # not on macOS
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, size)
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


def _write(file: h5py.File, rows: slice, features: ImageFeatures) -> None:
    """Write a batch, and only when it is on its way to the disk mark it done."""
    tensors = {"cls": features.cls}
    for stream in fields(Streams):
        tensors |= {f"{stream.name}/{key}": tensor for key, tensor in getattr(features, stream.name).items()}
    for name, tensor in tensors.items():
        file[name][rows] = _fp16(tensor, file.filename, name)
    file.flush()
    file["done"][rows] = True
    file.flush()


def _fp16(tensor: Tensor, path: str, name: str) -> np.ndarray:
    half = tensor.to("cpu", torch.float16)
    if not torch.isfinite(half).all():
        raise InputError(
            f"{path}: {name}: features are not finite or exceed fp16; use precision fp32 and check the weights"
        )
    return half.numpy()


def _reason(error: OSError) -> str:
    return error.strerror or str(error).splitlines()[0]
