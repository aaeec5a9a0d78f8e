"""Normal scenes made from photographs: crops at many scales, and shapes of real material on a plain ground."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from kanoclip.datasets.synthetic.canvas import Array, Canvas, Scene, mix

LEAST_CROP = 72  # smallest side in pixels of a crop of a photograph
CUT_OUT = 0.35  # share of scenes that are a shape on a ground
COLOUR = "grey"  # a placeholder: the colour of a photograph is not described


def crop_side(photo: NDArray[np.uint8], c: Canvas) -> int:
    """Return a random side for square crops of a photograph, log-uniform from LEAST_CROP to the shorter side."""
    shorter = min(photo.shape[:2])
    return int(shorter * (min(LEAST_CROP, shorter) / shorter) ** c.uniform(0, 1))


def crop(photo: NDArray[np.uint8], side: int, c: Canvas) -> Array:
    """Return a random square crop of a photograph, mirrored or rotated by chance: (S, S, 3), 0..1."""
    top, left = (int(c.rng.integers(0, length - side + 1)) for length in photo.shape[:2])
    window = Image.fromarray(photo[top : top + side, left : left + side])
    image = np.asarray(window.resize((c.size, c.size), Image.Resampling.BICUBIC), np.float32) / 255
    return image[:, ::-1] if c.chance(0.5) else image


def scene(photo: NDArray[np.uint8], side: int, cut_out: bool, c: Canvas) -> Scene:
    """Return a normal scene made from a photograph.

    Args:
        photo: (H, W, 3).
        side: side of the crop, from `crop_side`; images of one surface have the same.
        cut_out: use the crop as the material of a single shape on a plain ground, instead of filling the image.
        c: coordinates and random numbers.
    """
    image = crop(photo, side, c)
    if not cut_out:
        hidden = _plain(c, image) if c.chance(0.5) else image * np.float32(0.2)
        return Scene(image, np.ones(image.shape[:2], np.float32), hidden, COLOUR)
    ground, distance = _ground(c), _outline(c)
    inside = c.cover(distance, 1.5).astype(np.float32)
    if c.chance(0.5):  # rounded off towards its outline
        depth = np.clip(-distance / np.float32(c.uniform(0.05, 0.3)), 0, 1)
        image = image * (1 - np.float32(c.uniform(0.2, 0.6)) * (1 - depth) ** 2)[..., None]
    if c.chance(0.4):
        shift = tuple(int(step) for step in c.rng.integers(-6, 7, 2))
        shadow = gaussian_filter(np.roll(inside, shift, (0, 1)), c.uniform(1, 5))
        ground = ground * (1 - np.float32(c.uniform(0.1, 0.5)) * shadow)[..., None]
    return Scene(mix(ground, image, inside), inside, ground, COLOUR)


def _plain(c: Canvas, image: Array) -> Array:
    return np.zeros_like(image) + c.rng.uniform(0.05, 0.95, 3).astype(np.float32)


def _ground(c: Canvas) -> Array:
    """Return a plain ground, slightly rough and unevenly lit."""
    ground = c.backdrop(*(("black", "white", "grey") if c.chance(0.6) else ()))
    angle, slope = c.uniform(0, 2 * np.pi), np.float32(c.uniform(0, 0.2))
    light = 1 + slope * (np.float32(np.cos(angle)) * c.x + np.float32(np.sin(angle)) * c.y)
    return (ground * light[..., None]).astype(np.float32)


def _outline(c: Canvas) -> Array:
    """Return the approximate signed distance to a random disc, ring, bar, box, polygon, cross or blob."""
    u, v = c.pose(0.5, 0.95)
    form = int(c.rng.integers(7))
    aspect = np.float32(c.uniform(0.35, 1.0))
    if form == 0:
        return np.hypot(u, v / aspect) - np.float32(0.85)
    if form == 1:
        radius = np.hypot(u, v)
        return np.maximum(radius - np.float32(0.9), np.float32(c.uniform(0.2, 0.6)) - radius)
    if form == 2:
        return np.maximum(np.abs(u) - np.float32(0.95), np.abs(v) - np.float32(c.uniform(0.12, 0.4)))
    if form == 3:
        corner = np.float32(c.uniform(0.0, 0.3))
        along, across = np.abs(u) - np.float32(0.8) + corner, np.abs(v) - np.float32(0.8) * aspect + corner
        return np.hypot(np.maximum(along, 0), np.maximum(across, 0)) + np.minimum(np.maximum(along, across), 0) - corner
    if form == 4:
        sides = int(c.rng.integers(3, 9))
        angle = np.arctan2(v, u) % np.float32(2 * np.pi / sides) - np.float32(np.pi / sides)
        return np.hypot(u, v) * np.cos(angle) - np.float32(0.75)
    if form == 5:
        arm = np.float32(c.uniform(0.15, 0.35))
        one = np.maximum(np.abs(u) - np.float32(0.9), np.abs(v) - arm)
        other = np.maximum(np.abs(v) - np.float32(0.9), np.abs(u) - arm)
        return np.minimum(one, other)
    angle, waves = np.arctan2(v, u), int(c.rng.integers(2, 12))
    return np.hypot(u, v) - np.float32(0.75) * (1 + np.float32(c.uniform(0.03, 0.2)) * np.cos(waves * angle))
