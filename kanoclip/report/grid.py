"""A grid of images, masks and anomaly maps: rows image, ground truth and one a method, columns samples, in bands."""

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
from scipy.ndimage import gaussian_filter

from kanoclip.datasets.index import load_image, load_mask
from kanoclip.datasets.masks import resize_mask
from kanoclip.metrics.scores import scored_index
from kanoclip.report.style import STYLE
from kanoclip.types import SIGMA_REFERENCE_SIZE

SIDE = 256  # images are shown as squares of this many pixels: as the methods see them
PANEL = 1.0  # side of a panel of a grid, in inches
COLUMNS = 12  # more samples go on in a further band beneath
LABEL_WIDTH = 14  # characters of a row's name in a line
GAP = 0.03  # between panels, in panels
COLOURS = matplotlib.colormaps["inferno"]
COLOUR_QUANTILES = (0.01, 0.99)


@dataclass(frozen=True)
class Overlay:
    """The map of one method on one image.

    Attributes:
        values: (SIDE, SIDE), 0 is drawn darkest and 1 brightest; values beyond are clipped.
        score: the image score.
    """

    values: NDArray[np.float64]
    score: float


@dataclass(frozen=True)
class Sample:
    """A column of a grid.

    Attributes:
        title: above the column.
        image: (SIDE, SIDE, 3) uint8.
        mask: (SIDE, SIDE) bool, or None when the image is anomalous and has no mask.
        overlays: one a method.
    """

    title: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    overlays: list[Overlay]


def read_samples(index: Path, scores: Sequence[Path], titles: Mapping[int, str]) -> list[Sample]:
    """Read the images, masks and maps of some rows; `titles` has the rows."""
    overlays: dict[int, list[Overlay]] = {row: [] for row in titles}
    for path in scores:
        with scored_index(path, index) as (rows, file):
            maps = {row: displayed_map(file["map"][row], float(file.attrs["sigma"])) for row in titles}
            low, high = colour_range(np.stack(list(maps.values())))
            for row, values in maps.items():
                overlays[row].append(Overlay((values - low) / (high - low), float(file["image_score"][row])))
    return [
        Sample(title, _square(rows["image_path"][row]), _mask(rows.iloc[row]), overlays[row])
        for row, title in titles.items()
    ]


def colour_range(maps: NDArray[np.float64]) -> tuple[float, float]:
    """What is drawn darkest and brightest: a few outliers must not darken all else, a small defect must still show."""
    low, high = np.quantile(maps, COLOUR_QUANTILES)
    if high == low:
        high = maps.max()
    return low, (high if high > low else low + 1)


def _square(path: str) -> NDArray[np.uint8]:
    return np.asarray(load_image(path).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def displayed_map(grid: NDArray[np.float32], sigma: float) -> NDArray[np.float64]:
    """A map as it is evaluated, but at the size that is shown: upsampled bilinearly, then smoothed.

    Args:
        grid: (h, w) as in scores.h5.
        sigma: the Gaussian's standard deviation in pixels, given at 518 pixels; 0 = none.

    Returns:
        (SIDE, SIDE).
    """
    upsampled = Image.fromarray(grid).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return gaussian_filter(np.asarray(upsampled, dtype=np.float64), sigma * SIDE / SIGMA_REFERENCE_SIZE)


def _mask(row: pd.Series) -> NDArray[np.bool_] | None:
    if row["mask_path"]:
        with Image.open(row["image_path"]) as image:
            return resize_mask(load_mask(row["mask_path"], image.size), (SIDE, SIDE))
    return None if row["label"] else np.zeros((SIDE, SIDE), dtype=bool)


def draw_grid(samples: Sequence[Sample], methods: Sequence[str]) -> Figure:
    """Rows image, ground truth (if any sample has a mask), one a method; columns samples."""
    masked = any(sample.mask is not None and sample.mask.any() for sample in samples)
    labels = ["image", *(["ground truth"] if masked else []), *methods]
    bands = [samples[start : start + COLUMNS] for start in range(0, len(samples), COLUMNS)]
    with matplotlib.rc_context(fname=STYLE, rc={"axes.grid": False}):
        figure, grids = _panels(len(labels), [len(band) for band in bands])
        for band, panels in zip(bands, grids, strict=True):
            for label, panel in zip(labels, panels[:, 0], strict=True):
                panel.set_ylabel(fill(label, LABEL_WIDTH))
            for sample, column in zip(band, panels.T, strict=True):
                column[0].set_title(sample.title)
                column[0].imshow(sample.image)
                if masked:
                    _draw_mask(column[1], sample.mask)
                for panel, overlay in zip(column[-len(methods) :], sample.overlays, strict=True):
                    _draw_overlay(panel, sample, overlay)
    return figure


def _panels(n_rows: int, widths: Sequence[int]) -> tuple[Figure, list[NDArray[Any]]]:
    """Empty grids of square panels, one beneath the other, with a colour bar at the lower right.

    Args:
        n_rows: of every grid.
        widths: the number of columns of each grid.
    """
    left, right, top, bottom = 0.4, 0.6, 0.5, 0.05  # margins in inches; every band has its own top
    width = left + PANEL * max(widths) + right
    band = top + PANEL * n_rows
    height = band * len(widths) + bottom
    figure = Figure(figsize=(width, height))
    grids = []
    for k, columns in enumerate(widths):
        place = {
            "left": left / width,
            "right": (left + PANEL * columns) / width,
            "top": 1 - (k * band + top) / height,
            "bottom": 1 - (k + 1) * band / height,
        }
        grids.append(figure.add_gridspec(n_rows, columns, wspace=GAP, hspace=GAP, **place).subplots(squeeze=False))
        for panel in grids[-1].flat:
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
    bar = figure.add_axes((1 - (right - 0.1) / width, bottom / height, 0.1 / width, (PANEL - 0.1) / height))
    figure.colorbar(ScalarMappable(cmap=COLOURS), cax=bar, ticks=[0, 1]).ax.set_yticklabels(["low", "high"])
    return figure, grids


def _draw_mask(panel: Axes, mask: NDArray[np.bool_] | None) -> None:
    if mask is None:
        panel.imshow(np.full((1, 1), 0.92), cmap="gray", vmin=0, vmax=1)
        panel.text(0.5, 0.5, "no mask", transform=panel.transAxes, ha="center", va="center", color="0.4")
    else:
        panel.imshow(mask, cmap="gray", vmin=0, vmax=1)


def _draw_overlay(panel: Axes, sample: Sample, overlay: Overlay) -> None:
    """The map over the grey image, the outline of the mask, the image score."""
    grey = np.asarray(Image.fromarray(sample.image).convert("L"))[..., None] / 255
    colours = COLOURS(overlay.values)[..., :3]
    panel.imshow(0.4 * grey + 0.6 * colours)
    if sample.mask is not None and sample.mask.any():
        panel.contour(sample.mask, levels=[0.5], colors="white", linewidths=0.6)
    box = {"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 1.5}
    panel.text(0.04, 0.95, f"{overlay.score:#.3g}", transform=panel.transAxes, va="top", color="white", bbox=box)
