"""Describe the marked region of a mask in one sentence: place, size, shape, colour and number of regions.

The paper asks a visual question answering model, which it does not specify and whose answers vary. This module answers
the same question from the ground truth, deterministically and correctly.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kanoclip.datasets.synthetic.render import extent_name, place_name

Float = NDArray[np.float64]

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

# Our thresholds. The sentences of a class are averaged (equation 3), so their exact values matter little.
SPECK = 1 / 50  # of the largest region's area: less is an annotation error and not counted
SCATTERED = 3  # regions at least, none of which holds half of the area
ELONGATED = 3.0  # times as long as wide
COMPACT = 0.8  # of the area of the ellipse with the same second moments: a rectangle fills 0.95, a ring little
MARGIN = 0.03  # share of the shorter side: the width of the surroundings of a mask
BRIGHTNESS = 5.0  # difference in CIELAB's L*, about twice what is just noticeable side by side
COLOUR = 10.0  # distance in CIELAB

COLOURS = {  # sRGB; the word for a colour is that of the nearest of these in CIELAB
    "black": (0, 0, 0),
    "dark grey": (70, 70, 70),
    "grey": (128, 128, 128),
    "light grey": (190, 190, 190),
    "white": (255, 255, 255),
    "red": (205, 35, 35),
    "brown": (115, 70, 40),
    "orange": (240, 140, 30),
    "yellow": (240, 220, 50),
    "beige": (222, 200, 165),
    "green": (50, 140, 60),
    "turquoise": (60, 190, 190),
    "blue": (40, 80, 190),
    "purple": (120, 50, 150),
    "pink": (240, 150, 180),
}


def describe(image: NDArray[np.uint8], mask: NDArray[np.bool_], class_name: str) -> str:
    """Return one sentence about the anomalies of an image, as an answer to the paper's visual question.

    Args:
        image: (H, W, 3) sRGB.
        mask: (H, W) True where anomalous, somewhere at least.
        class_name: as in index.csv.
    """
    regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(regions.ravel())[1:]
    count = int((areas >= SPECK * areas.max()).sum())
    rows, columns = np.nonzero(regions == areas.argmax() + 1)
    place = place_name((rows.mean() + 0.5) / mask.shape[0], (columns.mean() + 0.5) / mask.shape[1])
    scattered = count >= SCATTERED and areas.max() < areas.sum() / 2
    shape = "scattered" if scattered else shape_name(rows, columns)
    looks = f"{extent_name(float(mask.mean()))}, {shape}, {colour_name(_colour(image, mask))}"
    if count == 1:
        found = f"There is a {looks} anomaly on the {class_name}, at the {place} of the image"
    else:
        number = NUMBERS[count] if count < len(NUMBERS) else "more than ten"
        found = f"There are {number} {looks} anomalies on the {class_name}, the largest at the {place} of the image"
    return f"{found}{_contrast(image, mask)}."


def shape_name(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> str:
    """Return the shape of one region: "elongated", "compact" or "irregular".

    Args:
        rows: (N,) of its pixels.
        columns: (N,) of the same pixels.
    """
    # a pixel is a square, not a point: its own variance is 1/12
    short, long = np.linalg.eigvalsh(np.cov(np.stack([rows, columns]), ddof=0) + np.eye(2) / 12)
    if math.sqrt(long / short) >= ELONGATED:
        return "elongated"
    return "compact" if len(rows) >= COMPACT * 4 * math.pi * math.sqrt(short * long) else "irregular"


def colour_name(rgb: Float) -> str:
    """Return the word for an sRGB colour (3,) in 0..255."""
    return min(COLOURS, key=lambda name: float(np.linalg.norm(cielab(np.array(COLOURS[name])) - cielab(rgb))))


def cielab(rgb: Float | NDArray[np.int64]) -> Float:
    """Return L*, a*, b* (3,) of an sRGB colour (3,) in 0..255, for the white D65 (IEC 61966-2-1, CIE 15)."""
    signal = rgb / 255
    linear = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = to_xyz @ linear / to_xyz.sum(axis=1)
    x, y, z = (t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29 for t in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _contrast(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> str:
    """Return how the anomalies differ from their surroundings; empty if they do not."""
    margin = max(2, round(MARGIN * min(mask.shape)))
    around = ndimage.maximum_filter(mask, size=2 * margin + 1) & ~mask
    if not around.any():
        return ""
    surroundings = _colour(image, around)
    name = colour_name(surroundings)
    difference = cielab(_colour(image, mask)) - cielab(surroundings)
    if abs(difference[0]) >= BRIGHTNESS:
        return f", {'lighter' if difference[0] > 0 else 'darker'} than the {name} surroundings"
    if np.linalg.norm(difference) >= COLOUR:
        return f", as bright as the {name} surroundings but of another colour"
    return f", hardly different in colour from the {name} surroundings"


def _colour(image: NDArray[np.uint8], where: NDArray[np.bool_]) -> Float:
    """Return the median of each channel (3,) over some pixels."""
    return np.asarray(np.median(image[where], axis=0), dtype=np.float64)
