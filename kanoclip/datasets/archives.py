"""Unpack archives safely: verified to the end, limited in size, and written as a whole folder or not at all."""

import bz2
import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from kanoclip.files import temporary_beside
from kanoclip.types import InputError

LARGEST = 100 * 10**9  # bytes unpacked: the largest dataset of the paper has 5 GB
BLOCK = 2**20
ENCRYPTED = 1  # the flag of a zip's member that needs a password
COMPRESSED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZ": bz2.BZ2File,
    b"\xfd7": lzma.LZMAFile,
}  # by the first two bytes


class Damaged(InputError):
    """A file is not a whole archive."""


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; rename it to `folder` if the block succeeds, otherwise delete it.

    An existing folder of that name is replaced.
    """
    temporary = temporary_beside(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unpack(archive: Path, folder: Path, largest: int = LARGEST) -> None:
    """Unpack a tar or zip archive into a folder, whole or not at all.

    Args:
        archive: the file.
        folder: to be created.
        largest: most bytes that the unpacked files may take, against decompression bombs.

    Raises:
        Damaged: the archive is damaged anywhere, or is neither zip nor tar.
        InputError: it needs a password, would write outside the folder, or unpacks to more than `largest`.
    """
    # zipfile raises RuntimeError for an unknown compression
    broken = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError, ValueError)
    with whole_folder(folder) as temporary:
        try:
            if zipfile.is_zipfile(archive):
                _unzip(archive, temporary, largest)
            elif tarfile.is_tarfile(archive):
                _untar(archive, temporary, largest)
            else:
                raise Damaged(f"{archive}: neither a zip nor a tar archive; delete it and run again")
        except InputError:
            raise
        except tarfile.FilterError as error:
            raise InputError(f"{archive}: refused, it would write outside its folder ({error})") from error
        except OSError as error:
            if error.errno is not None:  # an error of the disk; those of gzip and bz2 have no number
                raise
            raise Damaged(f"{archive}: a damaged archive ({error}); delete it and run again") from error
        except broken as error:
            raise Damaged(f"{archive}: a damaged archive ({error}); delete it and run again") from error


def _untar(archive: Path, folder: Path, largest: int) -> None:
    with tarfile.open(archive) as tar:
        members, total = [], 0
        for member in tar:
            total += member.size
            _check_size(archive, total, largest)
            members.append(member)
        tar.extractall(folder, members, filter="data")
    _read_to_the_end(archive)


def _read_to_the_end(archive: Path) -> None:
    """Read a compressed tar to the end: its checksum comes after the end marker, where tarfile stops.

    Raises:
        OSError, EOFError, LZMAError, zlib.error: the content is not what was compressed.
    """
    with archive.open("rb") as file:
        opener = COMPRESSED.get(file.read(2))
    if opener is not None:
        with opener(archive) as stream:
            while stream.read(BLOCK):
                pass


def _check_size(archive: Path, total: int, largest: int) -> None:
    if total > largest:
        raise InputError(
            f"{archive}: refused, it would unpack to more than {largest / 1e9:g} GB; unpack it by hand if that is right"
        )


def _unzip(archive: Path, folder: Path, largest: int) -> None:
    with zipfile.ZipFile(archive) as file:
        # zipfile reads at most the size in a file's header, so the sum of these limits what is written
        _check_size(archive, sum(member.file_size for member in file.infolist()), largest)
        if any(member.flag_bits & ENCRYPTED for member in file.infolist()):
            raise InputError(f"{archive}: needs a password; unpack it by hand into images/ beside its folder")
        for name in file.namelist():
            path = PurePosixPath(name.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
                raise InputError(f"{archive}: refused, it would write outside its folder ({name})")
        file.extractall(folder)
