"""A folder of photographs without defects: their names for captions, and which of them are held out of training."""

import csv
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kanoclip.datasets.images import load_image
from kanoclip.types import InputError

SUFFIXES = (".jpg", ".jpeg", ".png")
HELD_OUT_SHARE = 10  # of 100 photographs
SYNSET = re.compile(r"^n\d{8}[_-]")  # ImageNet's identifier before a class name


@dataclass(frozen=True)
class Photograph:
    """A photograph without a known defect.

    Attributes:
        path: the file.
        name: what it shows, for captions.
        texture: whether a surface fills the whole image; otherwise it shows objects.
    """

    path: Path
    name: str
    texture: bool

    def read(self) -> NDArray[np.uint8]:
        """Return the pixels (H, W, 3), 0..255."""
        return np.array(load_image(self.path))


def read_photographs(folder: Path) -> list[Photograph]:
    """List every image under a folder, sorted by path.

    Names come from `manifest.csv` (columns image, name) if it exists, otherwise from the file names: DTD's
    `banded/banded_0002.jpg` is a "banded texture", ImageNet's `n01440764_tench.JPEG` a "tench". An image is a texture
    if its name ends in "texture".

    Raises:
        InputError: the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of photographs, found none; set pretraining.photographs")
    names = _manifest(folder / "manifest.csv")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: expected {', '.join(SUFFIXES)} images, found none")
    found = []
    for path in paths:
        name = names.get(path.relative_to(folder).as_posix()) or name_from_file(path)
        found.append(Photograph(path, name, name.endswith("texture")))
    return found


def name_from_file(path: Path) -> str:
    """Return what a file shows, from its own name (ImageNet) or its folder's, if the file name begins with it (DTD)."""
    if path.stem.startswith(f"{path.parent.name}_"):
        return f"{path.parent.name} texture"
    return re.sub(r"[_-]+", " ", SYNSET.sub("", path.stem)).strip().lower()


def split(photographs: Sequence[Photograph]) -> tuple[list[Photograph], list[Photograph]]:
    """Split photographs into training and validation; about one in ten is held out, chosen by file name."""
    held_out = [zlib.crc32(photo.path.name.encode()) % 100 < HELD_OUT_SHARE for photo in photographs]
    pairs = list(zip(photographs, held_out, strict=True))
    return [photo for photo, out in pairs if not out], [photo for photo, out in pairs if out]


def _manifest(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if not {"image", "name"} <= set(rows.fieldnames or ()):
            raise InputError(f"{path}: expected the columns image and name, found {','.join(rows.fieldnames or ())}")
        return {row["image"]: row["name"] for row in rows}
