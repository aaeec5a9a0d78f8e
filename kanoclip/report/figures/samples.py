"""Draw images with masks and anomaly maps: several methods on one dataset, or one method on several."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from numpy.typing import NDArray

from kanoclip.metrics.scores_file import attribute, scored_index
from kanoclip.report.grid import read_samples, save_grid
from kanoclip.report.registry import figure

TITLE_WIDTH = 16  # characters
BEST, MEDIAN, WORST, NORMAL = "best", "median", "worst", "normal"
HIGHEST, LOWEST = "highest", "lowest"


@figure(per="target", place=40)
def qualitative(index: Path, scores: Sequence[Path], out: Path) -> None:
    """Anomaly maps.

    From each class, the anomalous images with the highest (best), the median and the lowest (worst) image score and
    the normal image with the median score, according to the method in the first row of maps; from a class without
    anomalous images, those with the highest, the median and the lowest score. No image is picked by hand. Rows show
    the image, the ground truth if there is one, and the anomaly map of each method over the grey image; after twelve
    columns the figure continues below. Images are shown as squares, as the methods see them. Each method has one
    colour scale, from the first to the 99th percentile of the values shown. White outline: ground truth; number: image
    score.

    Args:
        index: index.csv of the dataset.
        scores: scores.h5 of each method on this dataset; the first method picks the images.
        out: the PNG; a PDF and an SVG are written beside it.

    Raises:
        InputError: scores and index do not list the same images.
    """
    titles: dict[int, str] = {}
    with scored_index(scores[0], index) as (rows, file):
        image_score = file["image_score"][:]
        for name, members in rows.groupby("class_name", sort=False):
            places = _spread(members["label"].to_numpy(), image_score[members.index])
            titles |= {int(members.index[k]): f"{fill(str(name), TITLE_WIDTH)}\n{place}" for k, place in places.items()}
    save_grid(read_samples(index, scores, titles), [attribute(path, "method") for path in scores], out)


@figure(per="run", place=10)
def teaser(pairs: Sequence[tuple[Path, Path]], out: Path) -> None:
    """Overview.

    The anomalous images with the highest and the median image score of each dataset (or any images, if none is known
    to be anomalous), with their masks and the anomaly maps of one method. Images are shown as squares, as the method
    sees them. Each dataset has one colour scale, from the first to the 99th percentile of the values shown. White
    outline: ground truth; number: image score.

    Args:
        pairs: (index.csv, scores.h5) of each dataset, the scores all by the same method.
        out: the PNG; a PDF and an SVG are written beside it.

    Raises:
        InputError: scores and index do not list the same images.
    """
    samples = []
    for index, scores in pairs:
        with scored_index(scores, index) as (rows, file):
            places = _spread(rows["label"].to_numpy(), file["image_score"][:])
            names = rows["class_name"]
        dataset = attribute(scores, "dataset")
        chosen = [row for row, place in places.items() if place in (BEST, HIGHEST, MEDIAN)]
        samples += read_samples(index, [scores], {row: f"{dataset}\n{fill(names[row], TITLE_WIDTH)}" for row in chosen})
    save_grid(samples, [attribute(pairs[0][1], "method")], out)


def _spread(labels: NDArray[np.integer], image_score: NDArray[np.floating]) -> dict[int, str]:
    """Return the rows of the best, median and worst images in the order of the columns, with their labels."""
    order = np.argsort(image_score, kind="stable")[::-1]
    anomalous, normal = order[labels[order] == 1], order[labels[order] == 0]
    shown, names = (anomalous, (BEST, MEDIAN, WORST)) if anomalous.size else (order, (HIGHEST, MEDIAN, LOWEST))
    places: dict[int, str] = {}
    for position, place in zip((0, len(shown) // 2, -1), names, strict=True):
        places.setdefault(int(shown[position]), place)
    if anomalous.size and normal.size:
        places[int(normal[normal.size // 2])] = NORMAL
    return places
