"""Fittings: round holes, hooks and holders that belong to a photographed part; a method must not respond to them.

They are regular, sharp and evenly shaded, while the holes and foreign objects among the defects are ragged.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kanoclip.datasets.synthetic.canvas import Array, Canvas, mix
from kanoclip.pretraining.corpus import Pair, drawn_pair

Place = tuple[float, float]
FITTED = 0.3  # share of the drawn training pairs with fittings
LEAST_SEEN = 0.75  # share of a defect that a fitting must leave visible


def holes(c: Canvas, image: Array, other: Array) -> Array:
    """Drill one to eight equal round holes or slots: single, in a row, or on a circle."""
    radius, slot = c.uniform(0.03, 0.14), c.uniform(0, 0.15) if c.chance(0.2) else 0.0
    ground, rim = _ground(c, image), _rim(c)
    for place in _places(c):
        image = _hole(c, image, place, radius, slot, ground, rim)
    return image


def hook(c: Canvas, image: Array, other: Array) -> Array:
    """Hang the part on a wire or hook that comes from a border and ends in a hole."""
    place, radius = (c.uniform(-0.5, 0.5), c.uniform(-0.75, 0.1)), c.uniform(0.06, 0.16)
    if c.chance(0.5):
        image = _hole(c, image, place, radius, 0.0, _ground(c, image), _rim(c))
    lean, width = c.uniform(-0.25, 0.25), c.uniform(0.03, 0.12)
    image = _bar(c, image, place, np.pi / 2 + lean, width, _metal(c))
    quarters = int(c.rng.choice(4, p=(0.7, 0.1, 0.1, 0.1)))  # parts hang from above, mostly
    return np.rot90(image, quarters)


def holders(c: Canvas, image: Array, other: Array) -> Array:
    """Hold the part with one to four equal bars from the borders, or with pins seen from above."""
    metal, width, count = _metal(c), c.uniform(0.05, 0.25), int(c.rng.integers(1, 5))
    if c.chance(0.3):
        for place in _places(c):
            away = np.hypot(c.x - np.float32(place[0]), c.y - np.float32(place[1])) / np.float32(width * 0.7)
            image = mix(_shadowed(c, image, away - 1), metal * _round(away), c.cover((away - 1) * np.float32(width)))
        return image
    first, distance = c.uniform(0, 2 * np.pi), c.uniform(0.45, 0.9)
    for number in range(count):
        angle = first + 2 * np.pi * number / count
        place = (distance * np.cos(angle), distance * np.sin(angle))
        image = _bar(c, image, place, angle + np.pi, width, metal)
    return image


def _places(c: Canvas) -> list[Place]:
    """Return the centres of one to eight equal fittings, arranged regularly."""
    form, count = int(c.rng.integers(3)), int(c.rng.integers(2, 9))
    centre = (c.uniform(-0.5, 0.5), c.uniform(-0.5, 0.5))
    if form == 0:
        return [centre]
    angle = c.uniform(0, 2 * np.pi)
    if form == 1:
        step = c.uniform(0.3, 0.7)
        steps = [step * (number - (count - 1) / 2) for number in range(count)]
        return [(centre[0] + along * np.cos(angle), centre[1] + along * np.sin(angle)) for along in steps]
    radius, turns = c.uniform(0.35, 0.8), [angle + 2 * np.pi * number / count for number in range(count)]
    return [(centre[0] / 3 + radius * np.cos(turn), centre[1] / 3 + radius * np.sin(turn)) for turn in turns]


def _ground(c: Canvas, image: Array) -> Array:
    """Return the colour (3,) seen through a hole: dark, bright, or that of a corner of the image."""
    if c.chance(0.4):
        return image[:6, :6].mean((0, 1))
    return np.full(3, c.uniform(0, 0.2) if c.chance(0.7) else c.uniform(0.7, 1), np.float32)


def _metal(c: Canvas) -> Array:
    """Return the colour (3,) of a fitting: grey, dark or coloured."""
    return c.colour(*(("silver", "grey", "black", "white") if c.chance(0.75) else ()))[1]


def _rim(c: Canvas) -> tuple[float, float]:
    """Return width and brightness (-1..1) of the rim of a hole."""
    return (c.uniform(0.02, 0.06), c.uniform(-0.4, 0.4)) if c.chance(0.6) else (0.02, 0.0)


def _hole(
    c: Canvas, image: Array, place: Place, radius: float, slot: float, ground: Array, rim: tuple[float, float]
) -> Array:
    """Drill a hole (a slot if `slot`, half its straight length, is above 0), lit at its lower edge."""
    u, v = c.posed(0.0, place)
    distance = np.hypot(np.maximum(np.abs(u) - np.float32(slot), 0), v) - np.float32(radius)
    edge = c.cover(np.abs(distance) - np.float32(rim[0])) * np.float32(rim[1])
    image = image + (edge * np.clip(0.6 + v / np.float32(radius), 0, 1))[..., None]
    return mix(image, np.zeros_like(image) + ground, c.cover(distance, 1.5))


def _bar(c: Canvas, image: Array, end: Place, angle: float, width: float, metal: Array) -> Array:
    """Draw a bar with a round end, from beyond the border to `end`, along an angle, shaded as a cylinder."""
    u, v = c.posed(angle, end)  # u runs from the border to the end
    distance = np.where(u > 0, np.hypot(u, v), np.abs(v)) - np.float32(width)
    image = _shadowed(c, image, distance)
    return mix(image, metal * _round(v / np.float32(width)), c.cover(distance, 1.5))


def _round(across: Array) -> Array:
    """Return the brightness (S, S, 1) of a cylinder or sphere at a distance from its axis, in radii."""
    return (1.15 - 0.5 * np.clip(np.abs(across - np.float32(0.3)), 0, 1.2))[..., None]


def _shadowed(c: Canvas, image: Array, distance: Array) -> Array:
    """Darken the surroundings of a fitting, on one side."""
    shadow = np.roll(c.cover(distance, 6), (2, 3), (0, 1))
    return image * (1 - np.float32(c.uniform(0, 0.4)) * shadow)[..., None]


FITTINGS = (holes, hook, holders)


def fitted_pair(kinds: tuple[str, ...], defects: tuple[str, ...], seed: int, number: int) -> Pair:
    """Return a scene of the generator without and with a defect, sometimes with fittings in both images.

    Args:
        kinds: to draw, in turn.
        defects: the only defects to draw.
        seed: first seed of the images.
        number: number of the pair.
    """
    pair = drawn_pair(kinds, defects, seed, number)
    if np.random.default_rng([seed, number, 2]).random() >= FITTED:
        return pair
    images, mask = fitted(pair.images, pair.mask, (seed, number))
    return Pair(images, mask, pair.facts)


def fitted(
    images: tuple[NDArray[np.uint8], NDArray[np.uint8]], mask: NDArray[np.bool_], seed: Sequence[int]
) -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.bool_]]:
    """Add the same fittings to both images of a pair.

    Args:
        images: a normal image and the same with a defect, two of (S, S, 3), 0..255.
        mask: (S, S) of the defect.
        seed: seed of the fittings.

    Returns:
        The images and the mask of what is still visible of the defect; all unchanged if too much of it is covered.
    """
    add = FITTINGS[int(np.random.default_rng([*seed, 0]).integers(len(FITTINGS)))]
    first, second = (
        np.clip(add(Canvas(np.random.default_rng([*seed, 1]), len(mask)), seen, seen) * 255 + 0.5, 0, 255)
        for seen in (image.astype(np.float32) / 255 for image in images)
    )
    visible = mask & (np.abs(second - first).max(axis=2) >= 1)
    if visible.sum() < LEAST_SEEN * mask.sum():
        return images, mask
    first, second = first.astype(np.uint8), second.astype(np.uint8)
    return (first, np.where(visible[..., None], second, first)), visible
