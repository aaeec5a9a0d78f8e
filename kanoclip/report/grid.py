"""Draw a grid of images, masks and anomaly maps: one column per sample, in bands of twelve."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from kanoclip.datasets.images import image_size
from kanoclip.datasets.index import load_image, load_mask
from kanoclip.datasets.integrity import check_unchanged
from kanoclip.datasets.masks import resize_mask
from kanoclip.metrics.scores_file import scored_index
from kanoclip.report.heat import COLOURS, SIDE, colour_range
from kanoclip.report.style import PICTURES, STYLE, save
from kanoclip.resampling import final_map_of

DPI = 150  # of a band's picture; equal to the style's, so that the PNG keeps its pixels unscaled
TILE, STEP = 146, 150  # in pixels: the side of an image, and the distance between images
COLUMNS = 12  # per band; further samples go into further bands below
LABEL_WIDTH = 14  # characters per line of a row's name
LEFT, RIGHT, TOP, BOTTOM = 0.4, 0.6, 0.5, 0.06  # margins in inches; each band has a top margin
NO_MASK = np.full((SIDE, SIDE), 235, dtype=np.uint8)  # light grey


@dataclass(frozen=True)
class Overlay:
    """The map of one method on one image.

    Attributes:
        values: (SIDE, SIDE), drawn from darkest (0) to brightest (1) and clipped.
        score: the image score.
    """

    values: NDArray[np.float64]
    score: float


@dataclass(frozen=True)
class Sample:
    """A column of a grid.

    Attributes:
        title: printed above the column.
        image: (SIDE, SIDE, 3) uint8.
        mask: (SIDE, SIDE) bool, or None for an anomalous image without a mask.
        overlays: one per method.
    """

    title: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    overlays: list[Overlay]


def read_samples(index: Path, scores: Sequence[Path], titles: Mapping[int, str]) -> list[Sample]:
    """Read the images, masks and maps of the rows in `titles`."""
    overlays: dict[int, list[Overlay]] = {row: [] for row in titles}
    for path in scores:
        with scored_index(path, index) as (rows, file):
            maps = {row: final_map_of(file["map"][row], SIDE, float(file.attrs["sigma"])) for row in titles}
            low, high = colour_range(np.stack(list(maps.values())))
            for row, values in maps.items():
                overlays[row].append(Overlay((values - low) / (high - low), float(file["image_score"][row])))
    check_unchanged(rows.iloc[list(titles)])
    return [
        Sample(title, _square(rows["image_path"][row]), _mask(rows.iloc[row]), overlays[row])
        for row, title in titles.items()
    ]


def _square(path: str) -> NDArray[np.uint8]:
    return np.asarray(load_image(path).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _mask(row: pd.Series) -> NDArray[np.bool_] | None:
    if row["mask_path"]:
        return resize_mask(load_mask(row["mask_path"], image_size(row["image_path"])), (SIDE, SIDE))
    return None if row["label"] else np.zeros((SIDE, SIDE), dtype=bool)


def save_grid(samples: Sequence[Sample], methods: Sequence[str], out: Path) -> None:
    """Draw one column per sample: the image, the ground truth (if any sample has a mask) and a map per method.

    A band is a single picture, which is much faster to draw and write than one panel per image.

    Args:
        samples: the columns.
        methods: names of the map rows.
        out: the PNG, whose metadata has the places of its pictures; a PDF and an SVG are written beside it.
    """
    masked = any(sample.mask is not None and sample.mask.any() for sample in samples)
    labels = ["image", *(["ground truth"] if masked else []), *methods]
    bands = [samples[start : start + COLUMNS] for start in range(0, len(samples), COLUMNS)]
    width = LEFT + len(bands[0]) * STEP / DPI + RIGHT
    band_height = TOP + len(labels) * STEP / DPI
    height = band_height * len(bands) + BOTTOM
    with matplotlib.rc_context(fname=STYLE, rc={"axes.grid": False}):
        figure = Figure(figsize=(width, height))
        places: list[list[float]] = []
        for k, band in enumerate(bands):
            rows, columns = len(labels) * STEP / DPI, len(band) * STEP / DPI
            bottom = height - (k + 1) * band_height
            panel = figure.add_axes((LEFT / width, bottom / height, columns / width, rows / height))
            _draw_band(panel, band, labels, masked)
            places.append(_place(panel))
        bar = figure.add_axes((1 - (RIGHT - 0.1) / width, BOTTOM / height, 0.1 / width, 0.9 / height))
        figure.colorbar(ScalarMappable(cmap=COLOURS), cax=bar, ticks=[0, 1]).ax.set_yticklabels(["low", "high"])
        places.append(_place(bar))
    save(figure, out, {PICTURES: json.dumps(places)})


def _place(panel: Axes) -> list[float]:
    """Return the left, top, width and height of a panel, as shares of the figure."""
    box = panel.get_position()
    return [round(value, 5) for value in (box.x0, 1 - box.y1, box.width, box.height)]


def _draw_band(panel: Axes, band: Sequence[Sample], labels: Sequence[str], masked: bool) -> None:
    """Draw the images of a band as one picture, with labels beside, above and on them."""
    picture = _side_by_side([_tiles(sample, masked) for sample in band])
    height, width, _ = picture.shape
    panel.set_axis_off()
    panel.imshow(picture, extent=(0, width, height, 0), aspect="auto", interpolation="none")
    beside: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "annotation_clip": False}
    for row, label in enumerate(labels):
        look: dict[str, Any] = {"va": "bottom", "rotation": 90, "rotation_mode": "anchor", "fontsize": "axes.labelsize"}
        panel.annotate(fill(label, LABEL_WIDTH), (0, row * STEP + TILE / 2), (-4, 0), **_sized(look), **beside)
    for column, sample in enumerate(band):
        look = {"va": "baseline", "fontsize": "axes.titlesize"}
        panel.annotate(sample.title, (column * STEP + TILE / 2, 0), (0, 6), **_sized(look), **beside)
        _annotate(panel, column * STEP, sample, 1 + masked)


def _sized(look: dict[str, Any]) -> dict[str, Any]:
    """Return text properties with a named font size of the style resolved."""
    return look | {"fontsize": matplotlib.rcParams[look["fontsize"]]}


def _tiles(sample: Sample, masked: bool) -> list[NDArray[np.uint8]]:
    """Return a column from the top: image, mask if `masked`, maps over the grey image; (TILE, TILE, 3) each."""
    tiles = [sample.image]
    if masked:
        tiles.append(NO_MASK if sample.mask is None else 255 * sample.mask.astype(np.uint8))
    grey = np.asarray(Image.fromarray(sample.image).convert("L"))[..., None] / 255
    for overlay in sample.overlays:
        mixed = 0.4 * grey + 0.6 * COLOURS(overlay.values)[..., :3]
        tiles.append((255 * mixed).astype(np.uint8))
    return [np.asarray(Image.fromarray(tile).convert("RGB").resize((TILE, TILE))) for tile in tiles]


def _side_by_side(columns: Sequence[Sequence[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Return columns of tiles as one picture, with white gaps between, right of and below them."""
    picture = np.full((STEP * len(columns[0]), STEP * len(columns), 3), 255, dtype=np.uint8)
    for x, column in enumerate(columns):
        for y, tile in enumerate(column):
            picture[y * STEP : y * STEP + TILE, x * STEP : x * STEP + TILE] = tile
    return picture


def _annotate(panel: Axes, x: int, sample: Sample, first_map: int) -> None:
    """Draw the mask outline and the image score on the maps of a column, or state that there is no mask.

    Args:
        panel: panel of the band, in pixels, with y pointing down.
        x: left edge of the column.
        sample: the column.
        first_map: number of rows above the maps.
    """
    if sample.mask is None and first_map == 2:
        panel.text(x + TILE / 2, STEP + TILE / 2, "no mask", ha="center", va="center", color="0.4")
    centres = (np.arange(SIDE) + 0.5) * TILE / SIDE
    for row, overlay in enumerate(sample.overlays, start=first_map):
        y = row * STEP
        if sample.mask is not None and sample.mask.any():
            panel.contour(x + centres, y + centres, sample.mask, levels=[0.5], colors="white", linewidths=0.6)
        box = {"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 1.5}
        panel.text(x + 0.04 * TILE, y + 0.05 * TILE, f"{overlay.score:.3f}", va="top", color="white", bbox=box)
