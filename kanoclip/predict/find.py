"""Find images from paths: files, folders of any structure, and text files of paths. Only hashes are kept in memory."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kanoclip.datasets.decoding import is_image_name
from kanoclip.predict.outputs import FILES, FOLDERS, MARK
from kanoclip.types import InputError, logger

LIST = ".txt"


@dataclass(frozen=True)
class Found:
    """An image file.

    Attributes:
        path: path of the file.
        name: unique within a prediction: the path relative to the given folder, or to the common folder of several
            paths. Parts are separated by "/".
    """

    path: Path
    name: str


class ImageFiles:
    """The images that paths lead to, each file once, in a fixed order; can be iterated repeatedly.

    Links to folders are followed, but not in circles. The outputs of a prediction are left out.

    Attributes:
        base: the folder that names are relative to.
        other_count: number of files in the folders whose names are not those of images.

    Args:
        paths: image files, folders, and text files (.txt) with one path per line, relative to the text file's folder.

    Raises:
        InputError: a path does not exist, a given file does not have the name of an image, or there is no image at all.
    """

    def __init__(self, paths: Sequence[Path]):
        if not paths:
            raise InputError("images: expected files or folders, found none named")
        self._paths = [_plain(path) for path in paths]
        self.base = _common(self._paths)
        self._count = self.other_count = 0
        for path in self._files():
            if is_image_name(path):
                self._count += 1
            else:
                self.other_count += 1
        if not self._count:
            where = ", ".join(map(str, paths))
            found = f"{self.other_count} other files" if self.other_count else "an empty folder"
            raise InputError(f"{where}: expected images (.png, .jpg, .tif, ...), found {found}")
        if repeated := sum(1 for _ in self._all_paths()) - self._count - self.other_count:
            logger.info("files given more than once, left out: %d", repeated)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Found]:
        for path in self._files():
            if is_image_name(path):
                name = os.path.relpath(path, self.base)
                yield Found(path, Path(name).as_posix())

    def others(self) -> Iterator[Path]:
        """Yield the files in the folders whose names are not those of images."""
        return (path for path in self._files() if not is_image_name(path))

    def _files(self) -> Iterator[Path]:
        """Yield every file below the given paths, except hidden ones, at its first path if several lead to it."""
        seen: set[int] = set()  # hashes of targets: a million take 60 MB
        for path in self._all_paths():
            target = hash(os.path.realpath(path))
            if target not in seen:
                seen.add(target)
                yield path

    def _all_paths(self) -> Iterator[Path]:
        walked: set[str] = set()
        for path in self._paths:
            if path.is_dir():
                yield from _below(path, walked)
            elif path.suffix.lower() == LIST and path.is_file():
                yield from _listed(path)
            else:
                yield _image_file(path)


def _plain(path: Path) -> Path:
    """Return an absolute path without dots; links are kept, since their targets may have meaningless names."""
    return Path(os.path.normpath(path.absolute()))


def _image_file(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: expected an image, a folder or a text file of paths, found nothing there")
    if not is_image_name(path):
        raise InputError(f"{path}: expected an image, found a file that is none by its name; rename or leave it out")
    return path


def _listed(path: Path) -> Iterator[Path]:
    """Yield the paths in a text file."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:  # Windows writes a mark at the start
        for line in lines:
            if text := line.strip():
                yield _image_file(_plain(path.parent / text))


def _below(folder: Path, walked: set[str]) -> Iterator[Path]:
    """Yield the files below a folder, sorted, and links that lead nowhere; hidden files and own outputs are left out.

    Args:
        folder: the folder.
        walked: targets of the folders that have been walked, which are not walked again; links can form circles.
    """
    target = os.path.realpath(folder)
    if target in walked:
        return
    walked.add(target)
    own = FILES | FOLDERS if (folder / MARK).is_file() else set()
    with os.scandir(folder) as entries:
        shown = (entry for entry in entries if not entry.name.startswith(".") and entry.name not in own)
        inside = sorted(shown, key=lambda entry: entry.name)
    for entry in inside:
        path, is_link = Path(entry.path), entry.is_symlink()
        if path.is_dir() if is_link else entry.is_dir():  # the entry of a link to itself would raise an error
            yield from _below(path, walked)
        elif is_link or entry.is_file():
            yield path


def _common(paths: Sequence[Path]) -> Path:
    """Return the folder that names are relative to."""
    if len(paths) == 1 and paths[0].is_dir():
        return paths[0]
    if len(paths) == 1 and paths[0].suffix.lower() != LIST:
        return paths[0].parent
    base: str | None = None
    for path in paths:
        for file in [path] if path.suffix.lower() != LIST or path.is_dir() else _listed(path):
            folder = str(file if file.is_dir() else file.parent)
            base = folder if base is None else os.path.commonpath([base, folder])
    return Path(base or ".")
