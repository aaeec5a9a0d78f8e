"""Cache slow computations in the user's cache folder. A cache that cannot be read or written costs only time."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kanoclip.files import write_text

KEPT = 20  # results of one kind; the oldest are deleted


def cache_folder() -> Path:
    """Return kanoclip's cache folder, `$XDG_CACHE_HOME/kanoclip` or `~/.cache/kanoclip`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "kanoclip"


def remembered(kind: str, key: str, compute: Callable[[], Any]) -> Any:
    """Return the cached result of a computation, or compute and cache it.

    Args:
        kind: the kind of computation, which names a folder.
        key: changes whenever the result may, e.g. a SHA-256 of everything it depends on.
        compute: returns the result as JSON-compatible values; its exceptions are passed on.
    """
    try:
        path = cache_folder() / kind / f"{key}.json"
    except RuntimeError:  # the user has no home
        return compute()
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
