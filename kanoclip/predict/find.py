"""Find the images that paths name: files, folders of any shape, text files of paths. Nothing is kept in memory."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kanoclip.datasets.decoding import is_image_name
from kanoclip.types import InputError

LIST = ".txt"
MARK = "prediction.json"  # a folder with this file holds what a prediction wrote; its pictures are not predicted


@dataclass(frozen=True)
class Found:
    """An image file.

    Attributes:
        path: where it is.
        name: unique among the images of a prediction: the path below the given folder, or below the folder that all
            given paths have in common. Parts are separated by "/".
    """

    path: Path
    name: str


class ImageFiles:
    """The images that some paths name, in a fixed order; iterate as often as you like.

    Attributes:
        base: the folder that names are relative to.

    Args:
        paths: image files, folders, and text files (.txt) with one path per line, relative to the text file's folder.
        skip: is told each file in a folder that is no image by its name.

    Raises:
        InputError: a path does not exist, a named file is no image by its name, or there is no image at all.
    """

    def __init__(self, paths: Sequence[Path], skip: Callable[[Path], None] | None = None):
        if not paths:
            raise InputError("images: expected files or folders, found none named")
        self._paths = [_plain(path) for path in paths]
        self.base = _common(self._paths)
        self.count = 0
        others = 0
        for path in self._files():
            if is_image_name(path):
                self.count += 1
            else:
                others += 1
                if skip is not None:
                    skip(path)
        if not self.count:
            where = ", ".join(map(str, paths))
            found = f"{others} other files" if others else "an empty folder"
            raise InputError(f"{where}: expected images (.png, .jpg, .tif, ...), found {found}")

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Found]:
        for path in self._files():
            if is_image_name(path):
                name = os.path.relpath(path, self.base)
                yield Found(path, Path(name).as_posix())

    def _files(self) -> Iterator[Path]:
        """Yield every file below the given paths, hidden ones left out."""
        for path in self._paths:
            if path.is_dir():
                yield from _below(path)
            elif path.suffix.lower() == LIST and path.is_file():
                yield from _listed(path)
            else:
                yield _image_file(path)


def _plain(path: Path) -> Path:
    """Return an absolute path without dots; links stay, for their targets may have names that tell nothing."""
    return Path(os.path.normpath(path.absolute()))


def _image_file(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: expected an image, a folder or a text file of paths, found nothing there")
    if not is_image_name(path):
        raise InputError(f"{path}: expected an image, found a file that is none by its name; rename or leave it out")
    return path


def _listed(path: Path) -> Iterator[Path]:
    """Yield the paths in a text file."""
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            if text := line.strip():
                yield _image_file(_plain(path.parent / text))


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted, without hidden ones; links to folders are not followed."""
    with os.scandir(folder) as entries:
        inside = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in inside:
        if entry.is_dir(follow_symlinks=False):
            if not Path(entry.path, MARK).is_file():
                yield from _below(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


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
