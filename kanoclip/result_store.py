"""A store of finished results by fingerprint, so that a repeated job computes only what changed.

A result is a set of files. It is stored under a key, the `fingerprint` of everything it depends on, and hard-linked to
its output paths. The folder holds:

    kept/<key>/          a finished result: its files and manifest.json, their SHA-256 digests
    partial/<key>[.n]/   unfinished work, locked by the process that does it
    trash/               what is being deleted
    lock                 held while a result is replaced or deleted

A result is added and removed by renaming a folder, so a process killed at any moment leaves no partial result.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import IO, Any

from kanoclip.files import sha256, whole, write_json
from kanoclip.locks import claim, locked
from kanoclip.types import logger

MANIFEST = "manifest.json"
DAY = 24 * 60 * 60  # seconds


class _DamagedError(Exception):
    """A stored result is damaged; the message names the file."""


def fingerprint(**parts: Any) -> str:
    """Return the SHA-256, in hexadecimal, of everything a result depends on.

    Args:
        parts: JSON-compatible values: text, numbers, booleans, None, and lists and dictionaries of these. Give content
            (the digest of a file) instead of its path, so that a copied folder has the same fingerprints.

    Raises:
        TypeError: a part is of another type, e.g. a path.
        ValueError: a number is not finite.

    >>> fingerprint(seed=1, options={"width": 64, "heads": 4}) == fingerprint(options={"heads": 4, "width": 64}, seed=1)
    True
    >>> fingerprint(seed=1) == fingerprint(seed=2)
    False
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Store:
    """Results kept by fingerprint in one folder. Several processes may use the same folder at once.

    A job does the following for each of its results:

        if not store.fetch(key, outputs):
            folder = store.partial(key)
            ...  # write the files into the folder, resuming the work of a killed process
            store.finish(key, {name: folder / ... for name in outputs}, outputs)

    Args:
        folder: folder of the results, created on first use. Nothing is copied if the outputs are on the same file
            system.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._claims: dict[str, tuple[Path, IO[str]]] = {}  # of each key: the partial folder and its open lock

    def fetch(self, key: str, outputs: Mapping[str, Path]) -> bool:
        """Link the files of a stored result to their output paths, all of them or none.

        Their modification time becomes now. All paths to which a file was fetched share its time and content: a program
        that writes into an output instead of replacing it damages the stored result. So the digests are verified here,
        and a damaged result is deleted.

        Args:
            key: the fingerprint.
            outputs: the paths to write, by the names given to `keep`. Their folders are created.

        Returns:
            Whether an undamaged result with these names is stored.
        """
        entry = self._entry(key)
        try:
            manifest = _manifest(entry)
            if not outputs.keys() <= manifest.keys():
                return False
            with ExitStack() as stack:
                for name, path in outputs.items():
                    temporary = stack.enter_context(whole(path))
                    _link(entry / name, temporary)
                    if sha256(temporary) != manifest[name]:
                        raise _DamagedError(f"'{name}' was changed")
                    os.utime(temporary)
            os.utime(entry / MANIFEST)  # when it was last used, for `sweep`
        except FileNotFoundError:
            return False
        except _DamagedError as error:
            logger.warning("%s: %s since it was kept; computing it again", entry, error)
            with self._deleting():
                if not _sound(entry):  # else another process has just replaced it
                    self._delete(entry)
            return False
        return True

    def partial(self, key: str) -> Path:
        """Return the folder for the unfinished work on a result, which is created if necessary.

        It outlives the process: the next caller with the same key finds its content. Until the result is stored, it
        belongs to this object; other callers, in this process or another, get a different folder.
        """
        if key not in self._claims:
            for slot in self._slots(key):
                lock = claim(slot)
                if lock is not None:
                    self._claims[key] = slot, lock
                    break
        folder = self._claims[key][0] / "unfinished"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def keep(self, key: str, files: Mapping[str, Path]) -> None:
        """Store a finished result and delete its partial folder.

        If an undamaged result with the same names is stored already, it stays, since others may have fetched it.

        Args:
            key: the fingerprint.
            files: by name, usually files in `partial(key)`. Files elsewhere stay in place, as links to the stored ones.

        Raises:
            ValueError: a name cannot be the name of a file in the store.
            FileNotFoundError: a file is missing.
        """
        for name in files:
            if name != Path(name).name or name in ("", "..", MANIFEST):
                raise ValueError(f"'{name}' cannot name a file in a store")
        self.partial(key)
        slot, lock = self._claims[key]
        built, entry = slot / "entry", self._entry(key)
        self._delete(built)  # of a process that was killed here
        built.mkdir()
        for name, path in files.items():
            _link(path, built / name)
        write_json(built / MANIFEST, {name: sha256(built / name) for name in files})
        entry.parent.mkdir(parents=True, exist_ok=True)
        with self._deleting():
            if not _sound(entry, set(files)):
                self._delete(entry)
                built.rename(entry)
        self._delete(slot)
        del self._claims[key]
        lock.close()

    def finish(self, key: str, files: Mapping[str, Path], outputs: Mapping[str, Path]) -> None:
        """Store a finished result and link its files to their output paths: `keep`, then `fetch`.

        Raises:
            OSError: a file cannot be read back as written.
        """
        self.keep(key, files)
        if not self.fetch(key, outputs):
            raise OSError(f"{self._entry(key)}: a result that was just kept is damaged; check the disk")

    def sweep(self, days: float = 7) -> None:
        """Delete results that no output links to, and unfinished work of dead processes.

        Args:
            days: keep results fetched or stored, and work written, in the last days. Work on a finished result is
                deleted at once.
        """
        before = time.time() - days * DAY
        for entry in _folders(self.folder / "kept"):
            with self._deleting(), suppress(FileNotFoundError):  # deleted meanwhile by another process
                linked = any(path.stat().st_nlink > 1 for path in entry.iterdir())
                if not linked and _last_change([entry / MANIFEST]) < before:
                    self._delete(entry)
        for slot in _folders(self.folder / "partial"):
            finished = self._entry(slot.name.partition(".")[0]).is_dir()
            lock = claim(slot)
            if lock is not None:
                if finished or _last_change(slot.rglob("*")) < before:
                    self._delete(slot)
                lock.close()
        for folder in _folders(self.folder / "trash"):
            shutil.rmtree(folder, ignore_errors=True)

    def _entry(self, key: str) -> Path:
        return self.folder / "kept" / key

    def _slots(self, key: str) -> Iterator[Path]:
        """Yield the partial folders of a key in the order to try them."""
        for number in count():
            yield self.folder / "partial" / (f"{key}.{number}" if number else key)

    def _deleting(self) -> AbstractContextManager[None]:
        """Hold the store's lock, so that no other process replaces a result between a look at it and its deletion."""
        return locked(self.folder / "lock")

    def _delete(self, path: Path) -> None:
        """Delete a folder if it exists: rename it into the trash, then delete its files.

        The caller holds the folder's lock, so nobody else deletes it, but others may create it again at once.
        """
        trash = self.folder / "trash"
        while path.exists():
            trash.mkdir(parents=True, exist_ok=True)
            grave = tempfile.mkdtemp(dir=trash)
            try:
                path.rename(Path(grave) / path.name)
            except FileNotFoundError:  # another process has just emptied the trash
                continue
            shutil.rmtree(grave, ignore_errors=True)
            break


def _link(source: Path, target: Path) -> None:
    """Hard-link `source` to `target`, or copy it if the file system has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _manifest(entry: Path) -> dict[str, str]:
    """Read the digests of a stored result by name."""
    try:
        digests = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
    except ValueError as error:
        raise _DamagedError(f"{MANIFEST} was changed") from error
    if not isinstance(digests, dict):
        raise _DamagedError(f"{MANIFEST} was changed")
    return digests


def _sound(entry: Path, names: set[str] | None = None) -> bool:
    """Return whether an undamaged result is stored, with exactly these names if given."""
    try:
        manifest = _manifest(entry)
        if names is not None and manifest.keys() != names:
            return False
        return all(sha256(entry / name) == digest for name, digest in manifest.items())
    except (FileNotFoundError, _DamagedError):
        return False


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _last_change(paths: Iterable[Path]) -> float:
    """Return the latest modification time of some files in seconds, ignoring files deleted meanwhile."""
    times = [0.0]
    for path in paths:
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)
