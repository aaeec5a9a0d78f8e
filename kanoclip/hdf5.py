"""Read and write HDF5 files so that damage is detected and links to other files are refused.

HDF5 can point to other files (external links, raw external storage, virtual datasets). A file from somewhere else could
read a private file with them, so such a file is refused. A sealed file holds the digest of its attributes and of its
small datasets; large datasets have a checksum per row (`row_checksum`) or HDF5's own.
"""

import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from kanoclip.files import whole
from kanoclip.types import InputError

SEAL = "digest"  # attribute with the SHA-256 of the other attributes and of the sealed datasets

UNSEALED = np.bytes_("0" * 64)

# what h5py and its callers raise for bytes that are not what they should be
DAMAGED = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError, MemoryError)


def open_hdf5(path: Path, what: str, remedy: str) -> h5py.File:
    """Open a file for reading.

    Args:
        path: the file.
        what: the kind of file expected, for the message, e.g. "a feature cache".
        remedy: what to do if it is none, e.g. "encode again".

    Raises:
        InputError: it is missing, not a whole HDF5 file, or names data outside of itself.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected {what}, found no file; {remedy}")
    with reading(path, what, remedy):
        file = h5py.File(path, "r")
        try:
            _refuse_other_files(file, path, what, remedy)
        except BaseException:
            file.close()
            raise
        return file


@contextmanager
def writing(path: Path, **options: Any) -> Iterator[h5py.File]:
    """Write a file whole or not at all. It is put together in memory: on a full disk HDF5 crashes the process.

    Args:
        path: the file to write.
        options: keyword arguments of `h5py.File`.
    """
    content = io.BytesIO()
    with h5py.File(content, "w", **options) as file:
        yield file
    with whole(path) as temporary:
        temporary.write_bytes(content.getbuffer())


@contextmanager
def reading(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Turn whatever HDF5 raises while a file is read into one line.

    Raises:
        InputError: the block failed because of the file.
    """
    try:
        yield
    except InputError:
        raise
    except DAMAGED as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{path}: expected {what}, found another kind of file or a damaged one ({said}); {remedy}"
        ) from (error)


def row_checksum(data: NDArray[Any], row: int) -> int:
    """Return the CRC-32 of a row of a dataset; it differs for the same data in another row.

    Args:
        data: the values of the row.
        row: its number.

    Returns:
        0..2^32 - 1.
    """
    return zlib.crc32(np.ascontiguousarray(data).view(np.uint8).reshape(-1).data, row)


def seal(file: h5py.File, names: Iterable[str]) -> None:
    """Write the digest of all attributes and of some datasets; the last thing to do with a file.

    Args:
        file: open for writing, complete.
        names: the datasets, small enough to be read as a whole.
    """
    # of fixed length: it is written in place where `UNSEALED` was, so that a full disk cannot interfere
    file.attrs.modify(SEAL, np.bytes_(_digest(file, names)))


def check_seal(file: h5py.File, names: Iterable[str], path: Path, remedy: str) -> None:
    """Refuse a file whose attributes or sealed datasets are not those that were written.

    Args:
        file: open for reading.
        names: the datasets that `seal` was given.
        path: path of the file, for the message.
        remedy: what to do.

    Raises:
        InputError: it is damaged, or has no seal.
    """
    with reading(path, "a sealed file", remedy):
        if bytes(file.attrs[SEAL]).decode() != _digest(file, names):
            raise InputError(f"{path}: damaged: its content is not what was written; {remedy}")


def _digest(file: h5py.File, names: Iterable[str]) -> str:
    attributes = {name: _plain(value) for name, value in file.attrs.items() if name != SEAL}
    digest = hashlib.sha256(json.dumps(attributes, sort_keys=True).encode())
    for name in names:
        dataset = file[name]
        text = h5py.check_string_dtype(dataset.dtype) is not None
        values = dataset.asstr()[:].tolist() if text else dataset[:]
        content = json.dumps(values).encode() if text else values.tobytes()
        digest.update(json.dumps([name, list(dataset.shape), len(content)]).encode() + content)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _refuse_other_files(group: h5py.Group, path: Path, what: str, remedy: str) -> None:
    for name in group:
        link = group.get(name, getlink=True)
        item = group[name] if isinstance(link, h5py.HardLink) else None
        if item is None or (isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)):
            raise InputError(f"{path}: refused: its '{name}' points to data elsewhere; expected {what}; {remedy}")
        if isinstance(item, h5py.Group):
            _refuse_other_files(item, path, what, remedy)
