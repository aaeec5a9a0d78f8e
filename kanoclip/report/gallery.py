"""The page's gallery: which images of each class it shows, and each as a picture small enough to be embedded."""

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

SIDE = 128  # pictures are squares of this many pixels: as the methods see them
QUALITY = 70  # of WebP, 0 to 100: mostly 1 to 6 kB an image and below 1 kB a heat map
MISSED, FALSE_ALARM, CORRECT = "missed", "false alarm", "correct"
PLACES, FEWEST = 96, 6  # images of a class over all methods, and of each method: many methods show fewer each
UNJUDGED = ""  # without a label, or where all labels are the same
MORE = 4  # times as many images of a class without labels: only their ranks say where to look


@dataclass(frozen=True)
class Picture:
    """An image of a dataset, whichever method shows it.

    Attributes:
        file: its name and folder.
        defect: "good" when it is normal.
        anomalous: its label; None when it is not known.
        image: data URL.
        mask: data URL; None when the image has no mask.
    """

    file: str
    defect: str
    anomalous: bool | None
    image: str
    mask: str | None


@dataclass(frozen=True)
class Tile:
    """A picture as one method sees it.

    Attributes:
        row: of the picture.
        score: the image score.
        rank: of the score among those of its class; the highest has 1.
        verdict: MISSED, FALSE_ALARM, CORRECT or UNJUDGED.
        heat: data URL of the anomaly map in colour; None when the method has no maps.
    """

    row: int
    score: float
    rank: int
    verdict: str
    heat: str | None


@dataclass(frozen=True)
class ClassView:
    """What a method shows of one class: its tiles in order, and how often it makes each kind of mistake."""

    images: int
    missed: int
    false_alarms: int
    tiles: list[Tile]


@dataclass(frozen=True)
class MethodView:
    """What a method shows of a dataset.

    Attributes:
        threshold: see `f1_threshold`; None when there is none.
        scale: the map values that are drawn darkest and brightest; None when the method has no maps.
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
        count: images of each class and method, at most; fewer where there are many methods (`count_of`), MORE times as
            many of a class without labels.

    Returns:
        By name of the dataset; each image is held once, however many methods show it.

    Raises:
        InputError: scores and index do not list the same images, or a method is given twice for a dataset.
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
    """Return how many images per class the gallery shows, given the number of methods.

    >>> [count_of(methods, 12) for methods in (4, 8, 12, 15, 30)]
    [12, 12, 8, 6, 6]
    """
    return min(wanted, max(FEWEST, PLACES // methods))


def f1_threshold(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float | None:
    """Return the image score with the highest F1 if it and all above count as anomalous; of several the highest.

    Args:
        labels: (N,) 1 anomalous, 0 normal, -1 not known.
        scores: (N,) finite.

    Returns:
        One of the scores; None when all known labels are the same.
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
        threshold: scores that are not below it are called anomalous.
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
    """Return the images of a class to show: mistakes first, and in both groups the highest score first.

    Half of the places are for anomalous images and half for normal ones, if there are enough: a method whose mistakes
    are all of one kind shows the other kind too. In each half the worst mistakes come in first; the others fill what
    room is left, evenly from the highest score to the lowest.

    Args:
        labels: (N,) 1 anomalous, 0 normal.
        scores: (N,) image scores.
        mistakes: (N,) whether the image is a mistake.
        count: images to show, at most.

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
    """Return the worst mistakes, and an even choice of the others, up to the number of places."""
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
        ranks = 1 + np.searchsorted(higher, -scores[chosen])  # ties share the best of their ranks
        tiles = [
            Tile(row, float(scores[row]), int(rank), verdicts[row], heats.get(row))
            for row, rank in zip(chosen, ranks, strict=True)
        ]
        classes[name] = ClassView(len(judged), judged.count(MISSED), judged.count(FALSE_ALARM), tiles)
    return MethodView(threshold, scale, classes)


def _heats(file: h5py.File, shown: list[int]) -> tuple[dict[int, str], tuple[float, float] | None]:
    """Return the maps of some rows in colours, on one scale, and that scale; nothing if the file has no maps."""
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
    """Return an image as a URL that holds it."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
