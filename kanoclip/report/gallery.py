"""Choose the images of the page's gallery, and make pictures small enough to embed."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from kanoclip.datasets.index import load_image, load_mask
from kanoclip.datasets.integrity import check_unchanged
from kanoclip.datasets.masks import resize_mask
from kanoclip.metrics.classification import f1_max_threshold
from kanoclip.metrics.ranking import UndefinedMetricError, rank
from kanoclip.metrics.scores_file import scored_index
from kanoclip.report.heat import COLOURS, colour_range
from kanoclip.resampling import final_map_of
from kanoclip.types import InputError, progress

SIDE = 128  # pixels per side; pictures are square, as the methods see them
QUALITY = 70  # of WebP, 0 to 100: mostly 1 to 6 kB per image and below 1 kB per heat map
MISSED, FALSE_ALARM, CORRECT = "missed", "false alarm", "correct"
PLACES, FEWEST = 96, 6  # images per class over all methods, and fewest images per class and method
UNJUDGED = ""  # the image has no label, or all labels are the same
MORE = 4  # times as many images of a class without labels, where only the ranking guides the eye


@dataclass(frozen=True)
class Picture:
    """An image of a dataset, whichever method shows it.

    Attributes:
        file: its name and folder.
        defect: "good" for a normal image.
        anomalous: its label; None if unknown.
        image: data URL.
        mask: data URL; None without a mask.
    """

    file: str
    defect: str
    anomalous: bool | None
    image: str
    mask: str | None


@dataclass(frozen=True)
class Tile:
    """A picture with the result of one method.

    Attributes:
        row: row of the picture.
        score: the image score.
        rank: rank of the score within its class, 1 for the highest.
        verdict: MISSED, FALSE_ALARM, CORRECT or UNJUDGED.
        heat: data URL of the heat map; None if the method has no maps.
    """

    row: int
    score: float
    rank: int
    verdict: str
    heat: str | None


@dataclass(frozen=True)
class ClassView:
    """One class as scored by a method: tiles in order, and the number of each kind of mistake."""

    images: int
    missed: int
    false_alarms: int
    tiles: list[Tile]


@dataclass(frozen=True)
class MethodView:
    """One dataset as scored by a method.

    Attributes:
        threshold: see `f1_threshold`; None if there is none.
        scale: the map values drawn darkest and brightest; None if the method has no maps.
        classes: by class name.
    """

    threshold: float | None
    scale: tuple[float, float] | None
    classes: dict[str, ClassView]


@dataclass(frozen=True)
class DatasetView:
    """A dataset in the gallery: whether it has masks, its pictures by row, and its methods by name."""

    masks: bool
    pictures: dict[int, Picture]
    methods: dict[str, MethodView]


def read_gallery(pairs: Sequence[tuple[Path, Path]], count: int) -> dict[str, DatasetView]:
    """Choose the images of every dataset, class and method, and make their pictures.

    Args:
        pairs: (index.csv, scores.h5) of each dataset and method, in the order of the page.
        count: most images per class and method; fewer with many methods (see `count_of`), and MORE times as many for a
            class without labels.

    Returns:
        The views by dataset name; each image is stored once, however many methods show it.

    Raises:
        InputError: scores and index do not list the same images, or a method is repeated for a dataset.
    """
    by_index: dict[Path, list[Path]] = {}
    for index, scores in pairs:
        by_index.setdefault(index, []).append(scores)
    datasets: dict[str, DatasetView] = {}
    for index, files in progress(by_index.items(), "gallery"):
        places = count_of(len(files), count)
        for scores in files:
            with scored_index(scores, index) as (rows, file):
                name, method = str(file.attrs["dataset"]), str(file.attrs["method"])
                view = datasets.setdefault(name, DatasetView(bool((rows["mask_path"] != "").any()), {}, {}))
                if method in view.methods:
                    raise InputError(f"{scores}: {method} on {name} is given twice; the gallery shows one seed of each")
                view.methods[method] = _method_view(rows, file, places)
                tiles = [tile for shown in view.methods[method].classes.values() for tile in shown.tiles]
                new = sorted({tile.row for tile in tiles} - view.pictures.keys())
                check_unchanged(rows.iloc[new])
                for row in new:
                    view.pictures[row] = _picture(rows.iloc[row])
    return datasets


def count_of(methods: int, wanted: int) -> int:
    """Return the number of images per class and method, given the number of methods.

    >>> [count_of(methods, 12) for methods in (4, 8, 12, 15, 30)]
    [12, 12, 8, 6, 6]
    """
    return min(wanted, max(FEWEST, PLACES // methods))


def f1_threshold(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float | None:
    """Return the threshold with the highest F1, the highest one of several.

    Args:
        labels: (N,) 1 anomalous, 0 normal, -1 not known.
        scores: (N,) finite.

    Returns:
        One of the scores; None if all known labels are the same.
    """
    try:
        return f1_max_threshold(rank(scores[labels == 1], scores[labels == 0]))
    except UndefinedMetricError:
        return None


def judge(labels: NDArray[np.integer], scores: NDArray[np.floating], threshold: float | None) -> NDArray[np.object_]:
    """Return MISSED, FALSE_ALARM or CORRECT for each image; UNJUDGED without a label or a threshold.

    Args:
        labels: (N,) 1 anomalous, 0 normal, -1 not known.
        scores: (N,).
        threshold: scores at or above it are called anomalous.
    """
    verdicts = np.full(len(scores), UNJUDGED, dtype=object)
    if threshold is not None:
        verdicts[labels >= 0] = CORRECT
        verdicts[(labels == 1) & (scores < threshold)] = MISSED
        verdicts[(labels == 0) & (scores >= threshold)] = FALSE_ALARM
    return verdicts


def choose(
    labels: NDArray[np.integer], scores: NDArray[np.floating], mistakes: NDArray[np.bool_], count: int
) -> NDArray[np.intp]:
    """Choose the images of a class to show: mistakes first, then the others, each with the highest score first.

    Half are anomalous and half normal, if there are enough, so that a method with one kind of mistake also shows the
    other group. Each half takes the worst mistakes first and fills up with others, evenly spaced from the highest
    score to the lowest.

    Args:
        labels: (N,) 1 anomalous, 0 normal.
        scores: (N,) image scores.
        mistakes: (N,) whether the image is a mistake.
        count: most images to show.

    Returns:
        Positions in `scores`, min(N, count) of them, in the order shown.
    """
    order = np.argsort(-scores, kind="stable")
    anomalous, normal = order[labels[order] == 1][::-1], order[labels[order] == 0]  # the worst first
    n_anomalous = min(len(anomalous), max((count + 1) // 2, count - len(normal)))
    chosen = np.concatenate(
        [_worst_and_spread(anomalous, mistakes, n_anomalous), _worst_and_spread(normal, mistakes, count - n_anomalous)]
    )
    return chosen[np.lexsort((-scores[chosen], ~mistakes[chosen]))]


def _worst_and_spread(worst_first: NDArray[np.intp], mistakes: NDArray[np.bool_], places: int) -> NDArray[np.intp]:
    """Return the worst mistakes, filled up with evenly spaced others, up to a number of places."""
    is_mistake = mistakes[worst_first]
    wrong, right = worst_first[is_mistake][:places], worst_first[~is_mistake]
    room = min(places - len(wrong), len(right))
    return np.concatenate([wrong, right[np.linspace(0, len(right) - 1, room).round().astype(np.intp)]])


def _method_view(rows: pd.DataFrame, file: h5py.File, count: int) -> MethodView:
    """Return the tiles of one method on one dataset."""
    scores, labels = file["image_score"][:], rows["label"].to_numpy()
    threshold = f1_threshold(labels, scores)
    verdicts = judge(labels, scores, threshold)
    members = {name: np.flatnonzero(rows["class_name"] == name) for name in rows["class_name"].unique()}
    shown = {}
    for name, of_class in members.items():
        mistakes = np.isin(verdicts[of_class], (MISSED, FALSE_ALARM))
        if (labels[of_class] < 0).any():
            places = np.argsort(-scores[of_class], kind="stable")[: MORE * count]
        else:
            places = choose(labels[of_class], scores[of_class], mistakes, count)
        shown[name] = of_class[places].tolist()
    heats, scale = _heats(file, sum(shown.values(), []))
    classes = {}
    for name, chosen in shown.items():
        judged = verdicts[members[name]].tolist()
        higher = np.sort(-scores[members[name]])
        ranks = 1 + np.searchsorted(higher, -scores[chosen])  # ties share their best rank
        tiles = [
            Tile(row, float(scores[row]), int(rank), verdicts[row], heats.get(row))
            for row, rank in zip(chosen, ranks, strict=True)
        ]
        classes[name] = ClassView(len(judged), judged.count(MISSED), judged.count(FALSE_ALARM), tiles)
    return MethodView(threshold, scale, classes)


def _heats(file: h5py.File, shown: list[int]) -> tuple[dict[int, str], tuple[float, float] | None]:
    """Return the heat maps of some rows on a common scale, and that scale; nothing if the file has no maps."""
    if "map" not in file or not shown:
        return {}, None
    sigma = float(file.attrs["sigma"])
    maps = {row: final_map_of(file["map"][row], SIDE, sigma) for row in shown}
    low, high = colour_range(np.stack(list(maps.values())))
    heats = {}
    for row, values in maps.items():
        colours = COLOURS((values - low) / (high - low), bytes=True)[..., :3]
        heats[row] = _data_url(Image.fromarray(colours), "webp", quality=QUALITY)
    return heats, (float(low), float(high))


def _picture(row: pd.Series) -> Picture:
    image = load_image(row["image_path"])
    mask = None
    if row["mask_path"]:
        small = resize_mask(load_mask(row["mask_path"], image.size), (SIDE, SIDE))
        mask = _data_url(Image.fromarray(small), "png", optimize=True)
    thumbnail = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    url = _data_url(thumbnail, "webp", quality=QUALITY)
    file = "/".join(Path(row["image_path"]).parts[-2:])
    return Picture(file, row["defect"], None if row["label"] < 0 else bool(row["label"]), url, mask)


def _data_url(image: Image.Image, kind: str, **options: int) -> str:
    """Return an image as a data URL."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
