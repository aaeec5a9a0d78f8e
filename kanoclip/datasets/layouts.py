"""Folder layouts: one reader per convention, from the root of a dataset to its rows.

A reader pairs masks with images by stem, never by order, ignores hidden files, and refuses a folder that should hold
images and holds none. A new layout is one function here, registered under the name that specs use.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pandas as pd

from kanoclip.datasets.folders import (
    Row,
    base_folder,
    images_below,
    images_in,
    masks_by_stem,
    row_of,
    visible_folders,
)
from kanoclip.datasets.images import image_size
from kanoclip.datasets.index import GOOD, UNLABELLED
from kanoclip.datasets.masks import load_mask
from kanoclip.datasets.specs import DatasetSpec
from kanoclip.tabular import read_csv
from kanoclip.types import InputError, logger, unknown_name

MASK_FOLDERS = ("ground_truth", "masks")

Reader = Callable[[Path, DatasetSpec], list[Row]]
LAYOUTS: dict[str, Reader] = {}


def read_layout(root: Path, spec: DatasetSpec) -> list[Row]:
    """Return the rows of a dataset whose files lie under `root`.

    Raises:
        InputError: the folders are not those of the spec's layout and classes.
    """
    if spec.layout not in LAYOUTS:
        raise unknown_name("layout", spec.layout, LAYOUTS)
    return LAYOUTS[spec.layout](root, spec)


def layout(name: str) -> Callable[[Reader], Reader]:
    """Register a reader under the name that specs use."""

    def register(reader: Reader) -> Reader:
        LAYOUTS[name] = reader
        return reader

    return register


@layout("mvtec")
def mvtec(root: Path, spec: DatasetSpec) -> list[Row]:
    """<class>/{train,test}/<good or defect>/000.png, <class>/ground_truth/<defect>/000_mask.png."""
    return [row for folder in class_folders(root, spec) for row in class_rows(folder, folder.name, GOOD)]


@layout("btad")
def btad(root: Path, spec: DatasetSpec) -> list[Row]:
    """<class>/{train,test}/{ok,ko}/0000.bmp, <class>/ground_truth/ko/0000.{bmp,png}."""
    return [row for folder in class_folders(root, spec) for row in class_rows(folder, folder.name, "ok")]


@layout("visa")
def visa(root: Path, spec: DatasetSpec) -> list[Row]:
    """The table split_csv/1cls.csv: object, split, label (normal or anomaly), image, mask; paths from the root."""
    root = base_folder(root, ["split_csv"])
    table_path = root / "split_csv" / "1cls.csv"
    table = _table(table_path, ["object", "split", "label", "image", "mask"])
    _same_classes(set(table["object"]), spec, table_path)
    return [
        Row(
            image=root / image,
            mask=root / mask if mask else None,
            folder=folder,
            label=int(label == "anomaly"),
            defect="anomaly" if label == "anomaly" else GOOD,
            split=split,
        )
        for folder, split, label, image, mask in table.itertuples(index=False)
    ]


@layout("sdd")
def sdd(root: Path, spec: DatasetSpec) -> list[Row]:
    """kosXX/PartN.jpg with kosXX/PartN_label.bmp for every image: anomalous where the label has a pixel above 0."""
    root = base_folder(root, ["kos01"])
    rows = []
    for image in [image for folder in sorted(root.glob("kos*")) for image in images_in(folder)]:
        mask = image.with_name(f"{image.stem}_label.bmp")
        if image.stem.endswith("_label"):
            continue
        anomalous = bool(load_mask(mask, image_size(image)).any())
        rows.append(row_of(image, spec.classes[0], "defect" if anomalous else GOOD, mask=mask if anomalous else None))
    return rows


@layout("dagm")
def dagm(root: Path, spec: DatasetSpec) -> list[Row]:
    """ClassN/{Train,Test}/0001.PNG; the anomalous images are those with a Label/0001_label.PNG beside them."""
    rows = []
    for folder in class_folders(root, spec):
        for split in ("Train", "Test"):
            masks = masks_by_stem([folder / split / "Label"])
            for image in images_in(folder / split):
                mask = masks.get(f"{image.stem}_label")
                rows.append(row_of(image, folder.name, "defect" if mask else GOOD, mask, split.lower()))
    return rows


@layout("bmad")
def bmad(root: Path, spec: DatasetSpec) -> list[Row]:
    """{train,test}/good/img, test/Ungood/img, test/Ungood/{anomaly_mask,label}; the validation split is not used."""
    root = base_folder(root, ["test/Ungood"])
    name = spec.classes[0]
    train, good, ungood = root / "train" / "good", root / "test" / "good", root / "test" / "Ungood"
    masks = masks_by_stem([ungood / "anomaly_mask", ungood / "label"])
    train_images = images_in(train / "img" if (train / "img").is_dir() else train) if train.is_dir() else []
    return [
        *(row_of(image, name, GOOD, split="train") for image in train_images),
        *(row_of(image, name, GOOD) for image in images_in(good / "img")),
        *(row_of(image, name, "Ungood", masks.get(image.stem)) for image in images_in(ungood / "img")),
    ]


@layout("yes_no")
def yes_no(root: Path, spec: DatasetSpec) -> list[Row]:
    """no/ holds normal, yes/ anomalous images; other folders (unlabelled, other tasks) are ignored."""
    root = base_folder(root, ["no"])
    name = spec.classes[0]
    return [
        *(row_of(image, name, GOOD) for image in images_in(root / "no")),
        *(row_of(image, name, "yes") for image in images_in(root / "yes")),
    ]


@layout("covid")
def covid(root: Path, spec: DatasetSpec) -> list[Row]:
    """Normal/ against COVID/, images directly inside or in images/; other findings are ignored.

    Both releases are read: the first has NORMAL and COVID-19. Lung masks are not anomaly masks.
    """
    root = base_folder(root, ["Normal", "NORMAL"])
    folders = {folder.name.lower(): folder for folder in visible_folders(root)}
    rows = []
    for defect, names in {GOOD: ["normal"], "COVID": ["covid", "covid-19"]}.items():
        folder = next((folders[name] for name in names if name in folders), root / names[0])
        inner = folder / "images"
        rows += [row_of(image, spec.classes[0], defect) for image in images_in(inner if inner.is_dir() else folder)]
    return rows


@layout("headct")
def headct(root: Path, spec: DatasetSpec) -> list[Row]:
    """labels.csv (id, hemorrhage) and images named by the id in three digits, in head_ct/ (once or twice nested)."""
    root = base_folder(root, ["labels.csv"])
    table = _table(root / "labels.csv", ["id", "hemorrhage"])
    images = {image.stem: image for image in sorted(root.glob("**/*.png")) if not image.name.startswith(".")}
    rows = []
    for number, label in table.itertuples(index=False):
        stem = number.zfill(3)
        if stem not in images:
            raise InputError(f"{root}: labels.csv lists the image {stem}.png, which is in no folder below")
        rows.append(row_of(images[stem], spec.classes[0], "hemorrhage" if label == "1" else GOOD))
    return rows


@layout("elpv")
def elpv(root: Path, spec: DatasetSpec) -> list[Row]:
    """labels.csv: path, probability of a defect, cell type (the class); probabilities between 0 and 1 are left out."""
    names = ["image", "probability", "type"]
    table = read_csv(root / "labels.csv", None, "get the dataset again", sep=r"\s+", names=names)
    certain = table[table["probability"].isin([0.0, 1.0])]
    return [
        row_of(root / image, cell, "defective" if probability == 1.0 else GOOD)
        for image, probability, cell in certain.itertuples(index=False)
    ]


@layout("textile")
def textile(root: Path, spec: DatasetSpec) -> list[Row]:
    """nominal/ against each class's own folder: both classes share the same normal images."""
    return [
        row
        for folder in spec.classes
        for row in (
            *(row_of(image, folder, GOOD) for image in images_in(root / "nominal")),
            *(row_of(image, folder, folder) for image in images_in(root / folder)),
        )
    ]


@layout("folder")
def folder(root: Path, spec: DatasetSpec) -> list[Row]:
    """Images of the user: the layout of MVTec AD, good/ and a folder per defect, or no labels at all.

    A class folder holds test/<good or defect>/ (and maybe train/good/), or <good or defect>/ directly. Masks, if any,
    lie in ground_truth/<defect>/ or masks/<defect>/ of the class, named <stem>_mask or <stem>. A root that is itself
    such a folder is one class, named as the dataset. Where no folder is called good or test, nothing says which images
    are normal: all images below the root are unlabelled, of one class, named as the dataset.
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
    """Whether the folders inside say which images are normal."""
    return any((place / inner).is_dir() for inner in (GOOD, "test"))


def _unlabelled(root: Path, spec: DatasetSpec) -> list[Row]:
    """Return all images below a folder, without labels; refuse what was meant to have some."""
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
    """Refuse masks that belong to no image: their names are wrong, the dataset is not one without masks."""
    for mask_folder in (place / kind for place in places for kind in MASK_FOLDERS):
        for stray in sorted(mask_folder.glob("**/*.*")):
            raise InputError(
                f"{stray}: a mask without an image; expected {mask_folder.name}/<defect>/<image's stem>_mask.png"
            )


def class_rows(place: Path, name: str, normal: str) -> Iterator[Row]:
    """Yield the rows of one class: <normal or defect>/ in test/, or directly inside; train/<normal>/ if it is there.

    Args:
        place: the class folder.
        name: its class.
        normal: the folder name of normal images.
    """
    test = place / "test" if (place / "test").is_dir() else place
    defects = [folder for folder in visible_folders(test) if folder.name not in (*MASK_FOLDERS, "train")]
    if not defects:
        raise InputError(f"{place}: an empty class folder; expected a folder {normal}/ and one per defect, found none")
    for defect in defects:
        masks = masks_by_stem([place / kind / defect.name for kind in MASK_FOLDERS])
        for image in images_in(defect):
            if defect.name == normal:
                yield row_of(image, name, GOOD)
            else:
                both = [masks[stem] for stem in (f"{image.stem}_mask", image.stem) if stem in masks]
                if len(both) > 1:
                    raise InputError(f"{image}: two masks, {both[0].name} and {both[1].name}; keep one")
                yield row_of(image, name, defect.name, both[0] if both else None)
    if (place / "train" / normal).is_dir():
        yield from (row_of(image, name, GOOD, split="train") for image in images_in(place / "train" / normal))


def class_folders(root: Path, spec: DatasetSpec) -> list[Path]:
    """Return the class folders of a dataset, which must be exactly those of its spec."""
    folders = visible_folders(base_folder(root, spec.classes))
    _same_classes({folder.name for folder in folders}, spec, root)
    return folders


def _same_classes(found: set[str], spec: DatasetSpec, place: Path) -> None:
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


def _table(path: Path, columns: list[str]) -> pd.DataFrame:
    """Return some columns of a CSV file as text."""
    if not path.is_file():
        raise InputError(f"{path}: no such table")
    remedy = "get the dataset again"
    table = read_csv(path, None, remedy, dtype=str, keep_default_na=False, skipinitialspace=True)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(f"{path}: expected the columns {', '.join(columns)}; missing {', '.join(missing)}")
    return table[columns]
