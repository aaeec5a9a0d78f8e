"""Folder layouts: one reader per convention, which returns the rows of a dataset from its root folder.

A reader pairs masks with images by stem, never by order, ignores hidden files, and refuses a folder without the images
that it should hold. A new layout is one function here, registered under the name that specs use.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from kanoclip.datasets.class_folders import check_classes, class_folders, class_rows
from kanoclip.datasets.decoding import stem
from kanoclip.datasets.folders import Row, base_folder, images_in, masks_by_stem, row_of, visible_folders
from kanoclip.datasets.images import image_size
from kanoclip.datasets.index import GOOD
from kanoclip.datasets.masks import load_mask
from kanoclip.datasets.own_images import read_own_images
from kanoclip.datasets.specs import DatasetSpec
from kanoclip.naming import printable
from kanoclip.tabular import read_csv
from kanoclip.types import InputError, unknown_name

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
    """Read <class>/{train,test}/<good or defect>/000.png and <class>/ground_truth/<defect>/000_mask.png."""
    return [row for folder in class_folders(root, spec) for row in class_rows(folder, folder.name, GOOD)]


@layout("btad")
def btad(root: Path, spec: DatasetSpec) -> list[Row]:
    """Read <class>/{train,test}/{ok,ko}/0000.bmp and <class>/ground_truth/ko/0000.{bmp,png}."""
    return [row for folder in class_folders(root, spec) for row in class_rows(folder, folder.name, "ok")]


@layout("visa")
def visa(root: Path, spec: DatasetSpec) -> list[Row]:
    """Read split_csv/1cls.csv: object, split, label (normal or anomaly), image, mask; paths relative to the root."""
    root = base_folder(root, ["split_csv"])
    table_path = root / "split_csv" / "1cls.csv"
    values = {"split": ("train", "test"), "label": ("normal", "anomaly")}
    table = _table(table_path, ["object", "split", "label", "image", "mask"], "image", values)
    check_classes(set(table["object"]), spec, table_path)
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
    """Read kosXX/PartN.jpg, each with kosXX/PartN_label.bmp: anomalous if that mask has a pixel above 0."""
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
    """Read ClassN/{Train,Test}/0001.PNG; an image is anomalous if Label/0001_label.PNG exists beside it."""
    rows = []
    for folder in class_folders(root, spec):
        for split in ("Train", "Test"):
            masks = masks_by_stem([folder / split / "Label"])
            for image in images_in(folder / split):
                mask = masks.get(f"{stem(image)}_label")
                rows.append(row_of(image, folder.name, "defect" if mask else GOOD, mask, split.lower()))
    return rows


@layout("bmad")
def bmad(root: Path, spec: DatasetSpec) -> list[Row]:
    """Read {train,test}/good/img, test/Ungood/img and test/Ungood/{anomaly_mask,label}; skip the validation split."""
    root = base_folder(root, ["test/Ungood"])
    name = spec.classes[0]
    train, good, ungood = root / "train" / "good", root / "test" / "good", root / "test" / "Ungood"
    masks = masks_by_stem([ungood / "anomaly_mask", ungood / "label"])
    train_images = images_in(train / "img" if (train / "img").is_dir() else train) if train.is_dir() else []
    return [
        *(row_of(image, name, GOOD, split="train") for image in train_images),
        *(row_of(image, name, GOOD) for image in images_in(good / "img")),
        *(row_of(image, name, "Ungood", masks.get(stem(image))) for image in images_in(ungood / "img")),
    ]


@layout("yes_no")
def yes_no(root: Path, spec: DatasetSpec) -> list[Row]:
    """Read normal images from no/ and anomalous ones from yes/; ignore other folders (unlabelled, other tasks)."""
    root = base_folder(root, ["no"])
    name = spec.classes[0]
    return [
        *(row_of(image, name, GOOD) for image in images_in(root / "no")),
        *(row_of(image, name, "yes") for image in images_in(root / "yes")),
    ]


@layout("covid")
def covid(root: Path, spec: DatasetSpec) -> list[Row]:
    """Read Normal/ and COVID/, with images directly inside or in images/; ignore other findings.

    Both releases are supported: the first has NORMAL and COVID-19. Lung masks are not anomaly masks.
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
    """Read labels.csv (id, hemorrhage) and images named by the three-digit id, in head_ct/ (nested once or twice)."""
    root = base_folder(root, ["labels.csv"])
    table = _table(root / "labels.csv", ["id", "hemorrhage"], "id", {"hemorrhage": ("0", "1")})
    images = {image.stem: image for image in sorted(root.glob("**/*.png")) if not image.name.startswith(".")}
    rows = []
    for number, label in table.itertuples(index=False):
        padded = number.zfill(3)
        if padded not in images:
            raise InputError(f"{root}: labels.csv lists the image {padded}.png, which is in no folder below")
        rows.append(row_of(images[padded], spec.classes[0], "hemorrhage" if label == "1" else GOOD))
    return rows


@layout("elpv")
def elpv(root: Path, spec: DatasetSpec) -> list[Row]:
    """Read labels.csv: path, probability of a defect, cell type (the class); skip probabilities between 0 and 1."""
    names = ["image", "probability", "type"]
    table = read_csv(root / "labels.csv", None, "get the dataset again", sep=r"\s+", names=names)
    certain = table[table["probability"].isin([0.0, 1.0])]
    return [
        row_of(root / image, cell, "defective" if probability == 1.0 else GOOD)
        for image, probability, cell in certain.itertuples(index=False)
    ]


@layout("textile")
def textile(root: Path, spec: DatasetSpec) -> list[Row]:
    """Read nominal/, whose normal images both classes share, and the anomalous images in one folder per class."""
    return [
        row
        for folder in spec.classes
        for row in (
            *(row_of(image, folder, GOOD) for image in images_in(root / "nominal")),
            *(row_of(image, folder, folder) for image in images_in(root / folder)),
        )
    ]


layout("folder")(read_own_images)


def _table(path: Path, columns: list[str], key: str, values: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return some columns of a CSV file as text without blanks around it.

    Args:
        path: the file.
        columns: their names.
        key: the column that identifies a row.
        values: all values that a column may have.

    Raises:
        InputError: the file or a column is missing, a value is another, or a key is listed twice.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such table")
    remedy = "get the dataset again"
    table = read_csv(path, None, remedy, dtype=str, keep_default_na=False, skipinitialspace=True)
    table = table.rename(columns=str.strip)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(f"{path}: expected the columns {', '.join(columns)}; missing {', '.join(missing)}")
    table = table[columns].apply(lambda column: column.str.strip())
    wrong = {column: (~table[column].isin(known), f"expected {' or '.join(known)}") for column, known in values.items()}
    wrong[key] = table[key].str.zfill(3).duplicated(), "expected each once"  # 7 and 007 are the same of HeadCT
    for column, (rows, expected) in wrong.items():
        if rows.any():
            row = int(rows.to_numpy().argmax())
            found = printable(table[column][row], 60)
            raise InputError(f"{path}, line {row + 2}: {column}: {expected}, found '{found}'; {remedy}")
    return table
