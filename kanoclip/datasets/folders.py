"""Find images, class folders and masks in folders."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kanoclip.datasets.decoding import IMAGE_SUFFIXES, is_image_name, stem
from kanoclip.datasets.index import GOOD, UNLABELLED
from kanoclip.types import InputError, logger

# image formats that are not read; the user gets a warning
OTHER_SUFFIXES = (
    *(".avif", ".eps", ".exr", ".j2k", ".jfif", ".jp2", ".jpe", ".jxl"),
    *(".npy", ".pbm", ".pgm", ".pnm", ".ppm", ".psd", ".svg"),
)


@dataclass(frozen=True)
class Row:
    """One image of a dataset, before its class has the name used in prompts."""

    image: Path
    mask: Path | None
    folder: str  # the class, as the spec names it
    label: int  # 0 normal, 1 anomalous, -1 not known
    defect: str
    split: str = "test"


def row_of(image: Path, name: str, defect: str, mask: Path | None = None, split: str = "test") -> Row:
    """Return the row of an image, labelled by its defect."""
    return Row(image, mask, name, {GOOD: 0, UNLABELLED: -1}.get(defect, 1), defect, split)


def base_folder(root: Path, marks: Iterable[str]) -> Path:
    """Return the folder that holds one of `marks`: the root, or one up to two levels below (archives nest differently).

    Raises:
        InputError: no such folder holds any of them.
    """
    marks = list(marks)
    below = visible_folders(root)
    for place in [root, *below, *(inner for folder in below for inner in visible_folders(folder))]:
        if any((place / mark).exists() for mark in marks):
            return place
    found = ", ".join(folder.name for folder in below) or "no folder"
    raise InputError(f"{root}: expected {' or '.join(marks)}, found {found}")


def visible_folders(place: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without hidden ones and those that macOS adds to archives."""
    if not place.is_dir():
        return []
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


def _images(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    visible = sorted(path for path in place.iterdir() if not path.name.startswith("."))
    others = [path.name for path in visible if path.suffix.lower() in OTHER_SUFFIXES]
    if others:
        logger.warning("%s: %d files of kinds that are not read, such as %s", place, len(others), others[0])
    return [path for path in visible if is_image_name(path)]


def images_in(place: Path) -> list[Path]:
    """Return the images in a folder, sorted by name.

    Raises:
        InputError: there is none.
    """
    images = _images(place)
    if not images:
        raise InputError(f"{place}: expected images ({', '.join(IMAGE_SUFFIXES)}), found none")
    return images


def images_below(place: Path) -> list[Path]:
    """Return the images in a folder and in all visible folders below it."""
    return [*_images(place), *(image for folder in visible_folders(place) for image in images_below(folder))]


def masks_by_stem(places: Iterable[Path]) -> dict[str, Path]:
    """Return the masks in those of the folders `places` that exist, keyed by their `stem`.

    Raises:
        InputError: a folder has two masks with the same stem.
    """
    found: dict[str, Path] = {}
    for place in places:
        in_place: dict[str, Path] = {}
        for mask in _images(place):
            if stem(mask) in in_place:
                raise InputError(f"{mask}: a second mask for one image, beside {in_place[stem(mask)].name}; keep one")
            in_place[stem(mask)] = mask
        found |= in_place
    return found
