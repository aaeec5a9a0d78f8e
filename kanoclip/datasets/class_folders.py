"""Rows of datasets with one folder per class, as in MVTec-AD."""

from collections.abc import Iterator
from pathlib import Path

from kanoclip.datasets.decoding import stem
from kanoclip.datasets.folders import Row, base_folder, images_in, masks_by_stem, row_of, visible_folders
from kanoclip.datasets.index import GOOD
from kanoclip.datasets.specs import DatasetSpec
from kanoclip.types import InputError, logger

MASK_FOLDERS = ("ground_truth", "masks")
# how datasets call normal images, in lower case: such a folder is never a defect
NORMAL_FOLDERS = ("defect-free", "defect_free", "good", "healthy", "nominal", "normal", "normals", "ok", "okay")


def class_folders(root: Path, spec: DatasetSpec) -> list[Path]:
    """Return the class folders of a dataset, which must be exactly those of its spec."""
    folders = visible_folders(base_folder(root, spec.classes))
    check_classes({folder.name for folder in folders}, spec, root)
    return folders


def check_classes(found: set[str], spec: DatasetSpec, place: Path) -> None:
    """Refuse a dataset whose classes are not exactly those of its spec.

    Args:
        found: the classes found.
        spec: the dataset.
        place: where they were found, for the message.
    """
    expected = set(spec.classes)
    wrong = [
        f"{what} {', '.join(sorted(names))}"
        for what, names in (("missing", expected - found), ("unknown", found - expected))
        if names
    ]
    if wrong:
        raise InputError(
            f"{place}: not the classes of {spec.name}: {'; '.join(wrong)}; "
            "name a folder with other classes as a dataset of its own"
        )


def class_rows(place: Path, name: str, normal: str) -> Iterator[Row]:
    """Yield the rows of one class: <normal or defect>/ in test/, or directly inside; train/<normal>/ if it is there.

    Args:
        place: the class folder.
        name: its class.
        normal: the folder name of normal images.

    Raises:
        InputError: there are no such folders, the normal images lie in one of another name, or an image has two masks.
    """
    test = place / "test" if (place / "test").is_dir() else place
    defects = [folder for folder in visible_folders(test) if folder.name not in (*MASK_FOLDERS, "train")]
    if not defects:
        raise InputError(f"{place}: an empty class folder; expected a folder {normal}/ and one per defect, found none")
    _check_normal([folder.name for folder in defects], normal, test)
    for defect in defects:
        masks = masks_by_stem([place / kind / defect.name for kind in MASK_FOLDERS])
        for image in images_in(defect):
            if defect.name == normal:
                yield row_of(image, name, GOOD)
            else:
                both = [masks[key] for key in (f"{stem(image)}_mask", stem(image)) if key in masks]
                if len(both) > 1:
                    raise InputError(f"{image}: two masks, {both[0].name} and {both[1].name}; keep one")
                yield row_of(image, name, defect.name, both[0] if both else None)
    if (place / "train" / normal).is_dir():
        yield from (row_of(image, name, GOOD, split="train") for image in images_in(place / "train" / normal))


def _check_normal(found: list[str], normal: str, place: Path) -> None:
    """Refuse a folder of normal images under another name than `normal`: they would count as anomalous."""
    others = [name for name in found if name.lower() in NORMAL_FOLDERS and name != normal]
    if others:
        names = ", ".join(others)
        raise InputError(f"{place}: expected a folder {normal}/ with the normal images, found {names}; rename it")
    if normal not in found:
        logger.warning("%s: no folder %s/, so all images are anomalous (%s)", place, normal, ", ".join(found))
