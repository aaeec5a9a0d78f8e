"""Unpack archives safely; write folders whole or not at all."""

import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from kanoclip.types import InputError


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`; rename it to `folder` when the block ends well, delete it otherwise.

    A folder of that name is replaced.
    """
    temporary = folder.with_name(f".{os.getpid()}.{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive into a folder, whole or not at all.

    Raises:
        InputError: the archive is damaged, is neither zip nor tar, or would write outside the folder.
    """
    # zipfile raises RuntimeError for a password or a compression it does not know
    broken = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError)
    with whole_folder(folder) as temporary:
        try:
            if zipfile.is_zipfile(archive):
                _unzip(archive, temporary)
            elif tarfile.is_tarfile(archive):
                with tarfile.open(archive) as tar:
                    tar.extractall(temporary, filter="data")
            else:
                raise InputError(f"{archive}: neither a zip nor a tar archive")
        except tarfile.FilterError as error:
            raise InputError(f"{archive}: refused, it would write outside its folder ({error})") from error
        except broken as error:
            raise InputError(f"{archive}: a damaged archive ({error}); delete it and fetch it again") from error


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            path = PurePosixPath(name.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
                raise InputError(f"{archive}: refused, it would write outside its folder ({name})")
        file.extractall(folder)
