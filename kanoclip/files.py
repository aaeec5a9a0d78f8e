"""Write files whole or not at all; tell whether files have changed."""

import glob
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kanoclip.types import InputError, logger

HOST = hashlib.sha256(f"{platform.node()} {os.getuid()}".encode()).hexdigest()[:6]
RACY = 2.0  # seconds: a file changed so recently may change again without another time of modification


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` if the block ends without an error, delete it otherwise.

    Args:
        path: the file to write. Its folder is made.

    Yields:
        The temporary path to write to. It ends like `path` (writers that choose a format by suffix work).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):  # a full disk is reported without a name
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Return a temporary name beside a path, after removing what dead processes left under such names.

    The name tells machine and process: on a file system that machines share, only what a process of this machine wrote
    is known to be dead.
    """
    for left in path.parent.glob(f".{glob.escape(HOST)}-*.{glob.escape(path.name)}"):
        process = left.name.removeprefix(f".{HOST}-").removesuffix(f".{path.name}")
        if process.isdecimal() and not _alive(int(process)):
            logger.info("%s: removed, left by a process that was killed", left)
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f".{HOST}-{os.getpid()}.{path.name}")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; no process has such a number
        return True
    return True


def reserve(path: Path, size: int) -> None:
    """Reserve this many bytes on the disk for a file that is there, where the system can do that.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: Path, what: str, largest: int = 2**30) -> str:
    """Return the text of a file.

    Args:
        path: the file.
        what: it should hold, for the message.
        largest: bytes.

    Raises:
        InputError: it is missing, cannot be read, is not text in UTF-8, or is larger.
    """
    try:
        if path.stat().st_size > largest:
            raise InputError(f"{path}: expected {what}, found {path.stat().st_size} bytes, more than {largest}")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected {what} as text in UTF-8, found other bytes; make the file again") from error
    except OSError as error:
        raise InputError(f"{path}: expected {what}, cannot read it: {error.strerror or error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_digest(text: str) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of a text, enough to detect damage.

    `kanoclip.datasets.images.digest` is longer, because it identifies files.

    >>> text_digest("")
    'e3b0c44298fc1c14'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def remembered_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, which is read only if its size or time of modification is new.

    What has been computed is kept in `checksums.json` in the user's cache folder. Files changed in the last two
    seconds are not remembered. A cache that cannot be read or written costs time and nothing else.
    """
    path = path.resolve()
    known = _read_checksums()
    before = _state(path)
    entry = known.get(str(path))
    if isinstance(entry, dict) and entry.get("state") == before and isinstance(entry.get("sha256"), str):
        return entry["sha256"]
    age = time.time() - before[1] / 1e9  # seconds
    found = sha256(path)
    if age >= RACY and _state(path) == before:
        # read again, since another process may have written meanwhile; entries of deleted files go
        kept = {name: value for name, value in _read_checksums().items() if Path(name).exists()}
        _write_checksums(kept | {str(path): {"state": before, "sha256": found}})
    return found


def listing_digest(folder: Path) -> str:
    """Return a digest of the names, sizes and times of modification of all files below a folder.

    It changes when a file is added, replaced or removed, without reading any: 100,000 files take about a second. Names
    are relative, so the place of the folder does not count; hidden files, which no layout reads, do not either.

    Returns:
        64 hexadecimal digits; "" if there is no such folder.
    """
    if not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for name, size, modified in _listing(str(folder), "", ()):
        digest.update(f"{name}\0{size}\0{modified}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _listing(folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, int, int]]:
    """Yield name, bytes and nanoseconds of each file below a folder, sorted; links are followed, but not in circles."""
    status = Path(folder).stat()
    inside = (*above, (status.st_dev, status.st_ino))
    if inside[-1] in above:
        return
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _listing(entry.path, f"{prefix}{entry.name}/", inside)
            else:
                status = entry.stat(follow_symlinks=entry.is_file())  # a broken link has only its own status
                yield f"{prefix}{entry.name}", status.st_size, status.st_mtime_ns


def _state(path: Path) -> list[int]:
    """Return what a change of a file changes: its bytes and its time of modification in nanoseconds."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _checksums() -> Path:
    """Return the file of remembered checksums."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "kanoclip" / "checksums.json"


def _read_checksums() -> dict[str, Any]:
    try:
        known = json.loads(_checksums().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the user has no home
        logger.debug("no remembered checksums: %s", error)
        return {}
    return known if isinstance(known, dict) else {}


def _write_checksums(known: dict[str, Any]) -> None:
    try:
        write_json(_checksums(), known)
    except (OSError, RuntimeError) as error:
        logger.debug("checksums are not remembered: %s", error)
