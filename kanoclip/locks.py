"""Locks between processes, held until released or until the process ends, however it ends.

On a file system without locks every lock is granted; Snakemake never runs a job twice at a time.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock of a file, which is created with its folder, and hold it for the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def try_lock(path: Path) -> IO[str] | None:
    """Lock a file, which is created, for as long as the returned file is open; None if another process has it."""
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    except OSError:  # a file system without locks
        pass
    return lock


def claim(folder: Path) -> IO[str] | None:
    """Lock a folder, which is created, for as long as the returned file is open.

    The owner may delete the folder, with the lock in it, while others try to claim it.

    Returns:
        The open file `lock` in the folder; None if another process has it.
    """
    while True:
        with suppress(FileExistsError):  # not exist_ok, which fails if the folder is deleted just then
            folder.mkdir(parents=True)
        with suppress(FileNotFoundError):  # deleted meanwhile by the process that had it
            lock = try_lock(folder / "lock")
            if lock is None or os.path.samestat(os.fstat(lock.fileno()), (folder / "lock").stat()):
                return lock
            lock.close()
