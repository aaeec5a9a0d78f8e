"""Keep what is slow to compute in the user's cache folder. A cache that cannot be read or written costs time only."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kanoclip.files import write_text

KEPT = 20  # results of one kind; the oldest are deleted


def cache_folder() -> Path:
    """Return where kanoclip keeps what it can compute again: `$XDG_CACHE_HOME/kanoclip`, or `~/.cache/kanoclip`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "kanoclip"


def remembered(kind: str, key: str, compute: Callable[[], Any]) -> Any:
    """Return the kept result of a computation, or compute and keep it.

    Args:
        kind: what is computed; the name of a folder.
        key: changes whenever the result may, e.g. a SHA-256 of all it depends on.
        compute: gives the result as plain values that JSON can express. What it raises is raised, and nothing is kept.
    """
    path = cache_folder() / kind / f"{key}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        result = compute()
        _keep(path, result)
        return result


def _keep(path: Path, result: Any) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(result))
        by_age = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for old in by_age[:-KEPT]:
            old.unlink()
    except OSError:  # a full or read-only disk, or another process that deletes as well
        return
