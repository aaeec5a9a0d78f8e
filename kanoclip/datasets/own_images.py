"""The layout of a user's own images, with labels (good/ and a folder per defect) or without."""

from collections.abc import Iterable
from pathlib import Path

from kanoclip.datasets.class_folders import MASK_FOLDERS, class_rows
from kanoclip.datasets.folders import Row, images_below, row_of, visible_folders
from kanoclip.datasets.index import GOOD, UNLABELLED
from kanoclip.datasets.specs import DatasetSpec
from kanoclip.types import InputError, logger, unknown_name


def read_own_images(root: Path, spec: DatasetSpec) -> list[Row]:
    """Read a user's images: the layout of MVTec AD, good/ and a folder per defect, or no labels at all.

    A class folder holds test/<good or defect>/ (and maybe train/good/), or <good or defect>/ directly. Masks, if any,
    lie in ground_truth/<defect>/ or masks/<defect>/ of the class, named <stem>_mask or <stem>. If the root is itself a
    class folder, its only class is named after the dataset. If no folder is called good or test, all images below the
    root are unlabelled and belong to one class, named after the dataset.
    """
    folders = visible_folders(root)
    if _is_labelled(root):
        classes = {spec.name: root}
    elif any(map(_is_labelled, folders)):
        classes = {folder.name: folder for folder in folders}
    else:
        return _unlabelled(root, spec)
    for name in spec.class_names:
        if name not in classes:
            raise unknown_name("class folder", name, classes)
    for place in classes.values():
        if not _is_labelled(place):
            raise InputError(f"{place}: expected a class folder with {GOOD}/ or test/{GOOD}/ inside, found none")
    rows = [row for name, place in classes.items() for row in class_rows(place, name, GOOD)]
    if not any(row.mask for row in rows):
        _refuse_stray_masks(classes.values())
    return rows


def _is_labelled(place: Path) -> bool:
    """Return whether a folder has subfolders that label its images."""
    return any((place / inner).is_dir() for inner in (GOOD, "test"))


def _unlabelled(root: Path, spec: DatasetSpec) -> list[Row]:
    """Return all images below a folder without labels; refuse folders that seem meant to have labels."""
    for name in spec.class_names:
        if name != spec.name:
            raise unknown_name("class folder", name, [spec.name])
    for place in [root, *visible_folders(root)]:
        for inner in visible_folders(place):
            if inner.name in MASK_FOLDERS:
                raise InputError(f"{inner}: masks, but no folder {GOOD}/ beside them; put the normal images into one")
            if inner.name.lower() == GOOD:
                raise InputError(f"{inner}: expected {GOOD}/, found {inner.name}/; rename it")
    images = images_below(root)
    if not images:
        raise InputError(
            f"{root}: expected images, with labels ({GOOD}/ and a folder per defect) or without; found none"
        )
    logger.warning("%s: no folder %s/, so its %d images are unlabelled: no metrics", root, GOOD, len(images))
    return [row_of(image, spec.name, UNLABELLED) for image in images]


def _refuse_stray_masks(places: Iterable[Path]) -> None:
    """Refuse masks that match no image: their names must be wrong. Those of normal images, all black, are not read."""
    for mask_folder in (place / kind for place in places for kind in MASK_FOLDERS):
        for stray in images_below(mask_folder):
            if stray.relative_to(mask_folder).parts[0] == GOOD:
                continue
            raise InputError(
                f"{stray}: a mask without an image; expected {mask_folder.name}/<defect>/<image's stem>_mask.png"
            )
