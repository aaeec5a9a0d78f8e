"""Where the files of a dataset lie, fetched or placed there by hand, and which of them are there."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kanoclip.datasets.specs import ArchiveSource, ManualSource
from kanoclip.types import InputError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
UNPACKED = ".unpacked.json"  # in images/, of which it is a part: hidden, so that no layout reads it


@dataclass(frozen=True)
class Place:
    """The folder of a dataset's files, resources/<dataset>."""

    folder: Path

    @property
    def archives(self) -> Path:
        """The folder of the archive, downloaded or placed there by hand."""
        return self.folder / "archives"

    @property
    def images(self) -> Path:
        """The folder of the unpacked images, or of images placed there by hand."""
        return self.folder / "images"

    @property
    def note(self) -> Path:
        """The origin of the images, written last."""
        return self.folder / "source.json"

    @property
    def last(self) -> Path:
        """The facts of the archive unpacked last, kept when `note` is removed."""
        return self.folder / "archive.json"

    def has_images(self) -> bool:
        """Return whether there are images, unpacked or placed by hand."""
        return self.images.is_dir() and any(not path.name.startswith(".") for path in self.images.iterdir())

    def unpacked(self) -> dict[str, Any]:
        """Return the facts of the archive that the images were unpacked from; none if they were placed by hand."""
        return read_facts(self.images / UNPACKED)

    def archive(self, source: ArchiveSource | ManualSource) -> Path | None:
        """Return the archive if it is there.

        Raises:
            InputError: there are several, or only files that cannot be unpacked.
        """
        if isinstance(source, ArchiveSource):
            file = self.archives / source.file
            return file if file.is_file() else None
        files = sorted(path for path in self.archives.glob("*") if not path.name.startswith("."))
        found = [path for path in files if path.name.lower().endswith(ARCHIVES)]
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise InputError(f"{self.archives}: expected one archive, found {names}; keep one")
        if files and not found and not self.has_images():
            raise InputError(
                f"{self.archives}: expected an archive ({', '.join(ARCHIVES)}), found {files[0].name}; "
                f"unpack it by hand into {self.images}"
            )
        return found[0] if found else None

    def is_filled(self, source: ArchiveSource | ManualSource) -> bool:
        """Return whether there is an archive to unpack, or images, so that nothing has to be fetched.

        Raises:
            InputError: as `archive`.
        """
        return self.archive(source) is not None or self.has_images()


def read_facts(path: Path) -> dict[str, Any]:
    """Return what was recorded of an archive; nothing if there is no whole record."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) and isinstance(facts.get("sha256"), str) else {}
