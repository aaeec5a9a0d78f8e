"""The index of a dataset: one CSV row an image, and the reading of what it points to."""

import hashlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from kanoclip.files import whole
from kanoclip.types import InputError

INDEX_COLUMNS = ["image", "mask", "class_name", "label", "defect", "split"]
SPLITS = ("train", "test")
GOOD = "good"  # the defect of a normal image

# what Pillow raises for a file that is no image, or not all of one
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def write_index(frame: pd.DataFrame, path: Path) -> None:
    """Write an index whole or not at all, its rows in an order that depends on their content alone.

    Args:
        frame: the columns of `INDEX_COLUMNS`; image and mask relative to the folder of `path`, label 0 or 1.
        path: the index.csv to appear.
    """
    rows = frame[INDEX_COLUMNS].sort_values(["class_name", "split", "label", "image"], kind="stable")
    with whole(path) as temporary:
        rows.to_csv(temporary, index=False, lineterminator="\n")


def read_index(path: Path, split: str = "test") -> pd.DataFrame:
    """Read one split of an index and find its files.

    Args:
        path: an index.csv.
        split: "train" or "test".

    Returns:
        The rows of that split, numbered from 0, with the columns of `INDEX_COLUMNS` (label int, mask "" when there is
        none) and `image_path`, `mask_path`: absolute, mask_path "" when there is no mask.

    Raises:
        InputError: the file is missing, is no index, or holds no row of that split.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such index; make it with `kanoclip prepare`")
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file: {str(error).strip()}") from error
    if list(frame.columns) != INDEX_COLUMNS:
        raise InputError(f"{path}: expected the columns {','.join(INDEX_COLUMNS)}, found {','.join(frame.columns)}")
    _check_values(frame, path)
    frame = frame[frame["split"] == split].reset_index(drop=True)
    if frame.empty:
        raise InputError(f"{path}: no row of the split '{split}'")
    frame["label"] = frame["label"].astype(int)
    folder = path.resolve().parent
    frame["image_path"] = [os.path.normpath(folder / image) for image in frame["image"]]
    frame["mask_path"] = [os.path.normpath(folder / mask) if mask else "" for mask in frame["mask"]]
    return frame


def content(frame: pd.DataFrame) -> str:
    """Return a digest of what an index lists: names, classes, labels and the files' sizes and times."""
    digest = hashlib.sha256()
    for row in frame.itertuples():
        files = [Path(str(path)) for path in (row.image_path, row.mask_path) if path]
        if not all(file.is_file() for file in files):
            raise InputError(
                f"{row.image_path}: the index names this image, but it or its mask is not there; prepare again"
            )
        marks = [f"{file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
        digest.update(repr((row.image, row.class_name, row.label, row.defect, marks)).encode())
    return digest.hexdigest()


def _check_values(frame: pd.DataFrame, path: Path) -> None:
    """Refuse the first row whose value no index can hold; lines are numbered as an editor does."""
    wrong = {
        "image": frame["image"] == "",
        "class_name": frame["class_name"] == "",
        "label": ~frame["label"].isin(["0", "1"]),
        "split": ~frame["split"].isin(SPLITS),
    }
    for column, rows in wrong.items():
        if rows.any():
            row = int(rows.to_numpy().argmax())
            raise InputError(f"{path}, line {row + 2}: '{frame[column][row]}' is no valid {column}")


def load_image(path: Path | str) -> Image.Image:
    """Read an image whole, as RGB.

    Raises:
        InputError: the file is missing, truncated, no image, or has more than 8 bits a channel (how its values map to
            8 bits is the owner's choice; Pillow would saturate them).
    """
    image = _decoded(path)
    if image.mode.startswith(("I", "F")):
        raise InputError(f"{path}: expected 8 bits a channel, found mode {image.mode}; convert the image to 8 bits")
    return image.convert("RGB")


def load_mask(path: Path | str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Read a mask: every value above 0 is anomalous.

    Args:
        path: the mask's file.
        size: (W, H) of its image in pixels, as `PIL.Image.size`.

    Returns:
        (H, W) bool.

    Raises:
        InputError: the file is missing, truncated, no image, or of another size than its image.
    """
    mask = _decoded(path)
    if mask.size != size:
        raise InputError(
            f"{path}: the mask is {mask.width}x{mask.height} pixels, its image {size[0]}x{size[1]}; they must agree"
        )
    return np.asarray(mask.convert("L")) > 0


def _decoded(path: Path | str) -> Image.Image:
    """An image with all its pixels read."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such image")
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except BROKEN_IMAGE as error:
        raise InputError(f"{path}: not a whole image ({error}); replace or remove it") from error
