"""Assign different GPUs to jobs that run in parallel on one machine. No torch."""

import os
import tempfile
from pathlib import Path
from typing import IO

from kanoclip.locks import try_lock

_HELD: list[IO[str]] = []  # open until the process ends, however it ends


def take_gpu(count: int, folder: Path | None = None) -> int:
    """Return the number of a GPU that no other job holds, and hold it until this process ends.

    A GPU is held by a file lock, which the operating system releases when the process ends. If all are held, jobs share
    the first. On a cluster that exposes one GPU per job there is no choice.

    Args:
        count: number of GPUs visible to this process, at least 1.
        folder: folder of the lock files; default: one per user in the folder for temporary files.

    Returns:
        0 to count - 1, an index into the visible GPUs.
    """
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = seen if len(seen) == count else [str(number) for number in range(count)]
    folder = folder or Path(tempfile.gettempdir()) / f"kanoclip-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number, name in enumerate(names):
        lock = try_lock(folder / name.replace("/", "_"))
        if lock is not None:
            _HELD.append(lock)
            return number
    return 0
