"""Draw a synthetic dataset into a folder, which replaces no files but its own."""

import hashlib
import re
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from PIL import Image

from kanoclip.datasets.archives import whole_folder
from kanoclip.datasets.index import GOOD
from kanoclip.datasets.safe_open import shown
from kanoclip.datasets.specs import DatasetSpec, SyntheticSource
from kanoclip.datasets.synthetic.kinds import defects_of
from kanoclip.datasets.synthetic.render import render
from kanoclip.types import InputError, progress


def draw(spec: DatasetSpec, source: SyntheticSource, folder: Path) -> Path:
    """Draw a synthetic dataset in the layout of MVTec AD; the defects of a kind alternate.

    Args:
        spec: the dataset, whose classes are kinds.
        source: its size and numbers of images.
        folder: to be created, or replaced if this dataset was drawn into it before.

    Returns:
        The folder.

    Raises:
        InputError: the folder holds anything else.
    """
    _check_only_drawn(folder, spec)
    with whole_folder(folder) as temporary:
        for kind in progress(spec.classes, f"draw {spec.name}", unit="classes"):
            _draw_images(kind, [None] * source.normal, source, temporary)
            _draw_images(kind, list(islice(cycle(defects_of(kind)), source.anomalous)), source, temporary)
    return folder


def _check_only_drawn(folder: Path, spec: DatasetSpec) -> None:
    """Refuse to replace a folder unless it holds a drawn dataset, all of its kinds and only names that it gives."""
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        return
    names = "|".join(
        rf"{kind}/(test|ground_truth)/({'|'.join([GOOD, *defects_of(kind)])})/\d{{3,}}(_mask)?\.png"
        for kind in spec.classes
    )
    others = [
        path
        for path in (folder, *folder.rglob("*"))
        if (path.is_symlink() or path.is_file())
        and path.name != ".DS_Store"  # macOS adds it to folders that somebody looks at
        and not re.fullmatch(names, path.relative_to(folder).as_posix())
    ]
    missing = [folder / kind for kind in spec.classes if folder.exists() and not (folder / kind).is_dir()]
    if others or missing:
        found = shown(min(others)) if others else f"no {missing[0]}"
        raise InputError(
            f"{folder}: expected a folder that {spec.name} drew, to be replaced, or none; found {found}; move it away, "
            "or write the index into another folder"
        )


def _draw_images(kind: str, defects: Sequence[str | None], source: SyntheticSource, folder: Path) -> None:
    for number, defect in enumerate(defects):
        # each image has its own seed, so that drawing more images does not change the first ones
        digest = hashlib.sha256(f"{source.seed}/{kind}/{defect}/{number}".encode()).digest()
        sample = render(kind, defect, int.from_bytes(digest[:4], "big"), source.size)
        _save(Image.fromarray(sample.image), folder / kind / "test" / (defect or GOOD) / f"{number:03}.png")
        if defect is not None:
            mask = folder / kind / "ground_truth" / defect / f"{number:03}_mask.png"
            _save(Image.fromarray(sample.mask), mask)


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
