"""Find images from paths: files, folders of any structure, and text files of paths. Nothing is kept in memory."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kanoclip.datasets.decoding import is_image_name
from kanoclip.types import InputError

LIST = ".txt"
MARK = "prediction.json"  # marks a folder of predictions, whose pictures are skipped


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
    """The images that paths lead to, in a fixed order; can be iterated repeatedly.

    Attributes:
        base: the folder that names are relative to.

    Args:
        paths: image files, folders, and text files (.txt) with one path per line, relative to the text file's folder.
        skip: called with each file in a folder whose name is not that of an image.

    Raises:
        InputError: a path does not exist, a given file does not have the name of an image, or there is no image at all.
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
        """Yield every file below the given paths, except hidden ones."""
        for path in self._paths:
            if path.is_dir():
                yield from _below(path)
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
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            if text := line.strip():
                yield _image_file(_plain(path.parent / text))


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted, except hidden ones; links to folders are not followed."""
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
