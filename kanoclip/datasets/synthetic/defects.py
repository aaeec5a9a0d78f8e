"""Defects: each function changes a normal scene in one place and returns the image before the camera model.

`strength` runs from 0 (subtle) to 1 (obvious): it sets the contrast and, to a lesser degree, the size. `render` decides
which pixels count as anomalous by comparing the camera's images with and without the defect.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from kanoclip.datasets.synthetic.canvas import Array, Canvas, Scene, lit, mix


def _centre(c: Canvas, scene: Scene) -> tuple[float, float]:
    """Return a random point (x, y) on the object."""
    return _one_of(c, scene.inside > 0.9)


def _edge(c: Canvas, scene: Scene) -> tuple[float, float]:
    """Return a random point (x, y) on the edge of the object."""
    return _one_of(c, (scene.inside > 0.05) & (scene.inside < 0.95))


def _one_of(c: Canvas, places: NDArray[np.bool_]) -> tuple[float, float]:
    chosen = np.flatnonzero(places)
    row, column = divmod(int(chosen[c.rng.integers(chosen.size)]), c.size)
    return (float(c.x[row, column]), float(c.y[row, column]))


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _tone(c: Canvas, scene: Scene) -> Array:
    """Return a colour for dirt and fibres: grey on scans, any on photographs."""
    if scene.photo:
        return c.colour()[1]
    return np.full(3, c.uniform(0.0, 1.0), np.float32)


def scratch(c: Canvas, scene: Scene, strength: float) -> Array:
    """Draw one to three thin, nearly straight lines, brighter or darker than the surface."""
    change = _between(0.1, 0.45, strength) * (1 if c.chance(0.6) else -1)
    image, centre, width = scene.image, _centre(c, scene), c.uniform(0.01, 0.035)
    for _ in range(int(c.rng.integers(1, 4))):
        centre = (centre[0] + c.uniform(-0.08, 0.08), centre[1] + c.uniform(-0.08, 0.08))
        line = c.stroke(centre, c.uniform(0.25, 1.1), width, c.uniform(0, 0.1), 0.005)
        image = image + (line * scene.inside * np.float32(change))[..., None]
    return image


def crack(c: Canvas, scene: Scene, strength: float) -> Array:
    """Draw a dark jagged line with one or two branches."""
    centre, width, length = _centre(c, scene), c.uniform(0.015, 0.05), c.uniform(0.35, 1.2)
    line = c.stroke(centre, length, width, c.uniform(0.02, 0.12), c.uniform(0.02, 0.05))
    for _ in range(int(c.rng.integers(0, 3))):
        line = np.maximum(line, c.stroke(centre, length * c.uniform(0.3, 0.7), width * 0.7, 0.05, 0.04))
    return mix(
        scene.image, scene.image * np.float32(c.uniform(0.05, 0.4)), line * scene.inside * _between(0.4, 1, strength)
    )


def hole(c: Canvas, scene: Scene, strength: float) -> Array:
    """Open a hole with a lit rim, through which the scene behind is visible."""
    centre, radius = _centre(c, scene), _between(0.05, 0.22, c.rng.random())
    spot = c.blob(centre, radius, c.uniform(0.05, 0.4))
    rim = np.clip(4 * spot * (1 - spot), 0, 1) * c.uniform(-0.2, 0.3)
    inner = scene.behind if c.chance(0.5) else scene.behind * 0.3
    image = mix(scene.image, inner, spot * scene.inside * _between(0.6, 1.0, strength))
    return image + (rim * scene.inside)[..., None]


def stain(c: Canvas, scene: Scene, strength: float) -> Array:
    """Add a soft-edged, translucent spot of another colour."""
    centre, radius = _centre(c, scene), c.uniform(0.08, 0.35)
    spot = c.blob(centre, radius, c.uniform(0.2, 0.8), c.uniform(2, 10))
    opacity = spot * scene.inside * _between(0.2, 0.75, strength)
    return mix(scene.image, _tone(c, scene) * (0.4 + 0.6 * scene.image), opacity)


def dent(c: Canvas, scene: Scene, strength: float) -> Array:
    """Press a dip into the surface: bright on one side, dark on the other, of the same material."""
    centre, radius = _centre(c, scene), c.uniform(0.08, 0.28)
    u, v = c.posed(c.uniform(0, np.pi), centre, radius)
    height = np.exp(-((u * u + (v * c.uniform(0.7, 1.6)) ** 2) ** c.uniform(1, 2))) * (c.size * radius / 4)
    shade = lit(height, c.uniform(0, 2 * np.pi), _between(0.35, 1.3, strength))
    change = (shade - 1) * scene.inside
    return scene.image * (1 + change)[..., None] + np.float32(0.06) * change[..., None]  # even a black surface shines


def cut(c: Canvas, scene: Scene, strength: float) -> Array:
    """Cut a clean straight opening with a dark inside and one bright lip."""
    line = c.stroke(_centre(c, scene), c.uniform(0.25, 0.8), c.uniform(0.03, 0.08), 0.02, 0)
    lip = np.clip(np.roll(line, (1, 1), (0, 1)) - line, 0, 1)
    image = mix(scene.image, scene.behind * 0.5, line * scene.inside * _between(0.5, 1, strength))
    return image + (lip * scene.inside * np.float32(0.3 * strength))[..., None]


def contamination(c: Canvas, scene: Scene, strength: float) -> Array:
    """Scatter grains of a foreign material on the surface."""
    centre, spread, image = _centre(c, scene), c.uniform(0.05, 0.3), scene.image
    grain = _tone(c, scene)
    for _ in range(int(c.rng.integers(1, 7))):
        place = (centre[0] + spread * c.uniform(-1, 1), centre[1] + spread * c.uniform(-1, 1))
        spot = c.blob(place, c.uniform(0.025, 0.09), 0.6, 1.2) * scene.inside
        image = mix(image, grain * np.float32(c.uniform(0.7, 1.2)), spot * _between(0.55, 1.0, strength))
    return image


def thread(c: Canvas, scene: Scene, strength: float) -> Array:
    """Lay a loose fibre with a faint shadow across the surface."""
    centre, length, bend = _centre(c, scene), c.uniform(0.4, 1.2), c.uniform(0.1, 0.3)
    line = c.stroke(centre, length, c.uniform(0.015, 0.045), bend, 0.01)
    shadow = np.roll(line, (1, 1), (0, 1)) * np.float32(0.35)
    return mix(scene.image * (1 - shadow)[..., None], _tone(c, scene), line * _between(0.5, 1, strength))


def discolouration(c: Canvas, scene: Scene, strength: float) -> Array:
    """Shift the colour of a region and keep its structure."""
    spot = c.blob(_centre(c, scene), c.uniform(0.15, 0.45), c.uniform(0.3, 0.9), c.uniform(4, 20)) * scene.inside
    limit = _between(0.2, 0.6, strength)
    gain = c.uniform(-limit, limit) + (c.rng.uniform(-limit, limit, 3) if scene.photo else np.zeros(3))
    return scene.image + spot[..., None] * gain.astype(np.float32) * (scene.image + np.float32(0.05))


def abrasion(c: Canvas, scene: Scene, strength: float) -> Array:
    """Wear a patch: roughen it where it is even, flatten it where it is patterned."""
    spot = c.blob(_centre(c, scene), c.uniform(0.1, 0.35), c.uniform(0.3, 0.9), 4) * scene.inside
    rough = c.noise(c.uniform(0, 0.6), c.uniform(1, 5), c.uniform(0, np.pi)) * np.float32(_between(0.06, 0.2, strength))
    flat = scene.image.mean((0, 1), keepdims=True) if scene.inside.min() > 0 else scene.image
    return mix(scene.image, 0.5 * scene.image + 0.5 * flat + rough[..., None], spot)


def broken_pattern(c: Canvas, scene: Scene, strength: float) -> Array:
    """Interrupt the pattern of a region: shift it, or rotate it by 90 degrees."""
    centre, radius = _centre(c, scene), c.uniform(0.12, 0.4)
    if c.chance(0.5):
        region = c.blob(centre, radius, 0.4, 1.5)
    else:
        u, v = c.posed(c.uniform(0, np.pi), centre)
        region = c.cover(np.maximum(np.abs(u) - np.float32(radius * 1.6), np.abs(v) - np.float32(radius * 0.5)))
    shift = tuple(int(step) for step in c.rng.integers(c.size // 20, c.size, 2))
    other = np.roll(scene.image, shift, (0, 1))
    if c.chance(0.5):
        other = other.transpose(1, 0, 2)
    return mix(scene.image, other, region * scene.inside * _between(0.6, 1, strength))


def deformation(c: Canvas, scene: Scene, strength: float) -> Array:
    """Distort the shape or the pattern locally."""
    centre = _edge(c, scene) if scene.inside.min() < 0.05 else _centre(c, scene)
    radius, angle = c.uniform(0.12, 0.3), c.uniform(0, 2 * np.pi)
    u, v = c.posed(0.0, centre, radius)
    pull = np.exp(-(u * u + v * v)) * np.float32(_between(0.1, 0.24, strength) * c.size / 2)
    rows, columns = np.indices(pull.shape, dtype=np.float32)
    source = (rows + pull * np.float32(np.sin(angle)), columns + pull * np.float32(np.cos(angle)))
    channels = [map_coordinates(scene.image[..., k], source, order=1, mode="nearest") for k in range(3)]
    return np.stack(channels, axis=2)


def missing_part(c: Canvas, scene: Scene, strength: float) -> Array:
    """Remove a component or, from an object in one piece, break a piece off its edge."""
    if scene.bare is not None and scene.parts:
        part = scene.parts[int(c.rng.integers(len(scene.parts)))]
        return mix(scene.image, scene.bare, part)
    bite = c.blob(_edge(c, scene), _between(0.12, 0.35, strength), c.uniform(0.1, 0.6)) * scene.inside
    return mix(scene.image, scene.behind, bite)


def misplacement(c: Canvas, scene: Scene, strength: float) -> Array:
    """Shift a component out of its place."""
    if scene.bare is None or not scene.parts:
        raise ValueError("only a scene with parts can have one misplaced")
    part = scene.parts[int(c.rng.integers(len(scene.parts)))]
    angle, distance = c.uniform(0, 2 * np.pi), _between(0.05, 0.16, strength) * c.size
    shift = (round(distance * np.sin(angle)), round(distance * np.cos(angle)))
    emptied = mix(scene.image, scene.bare, part)
    return mix(emptied, np.roll(scene.image, shift, (0, 1)), np.roll(part, shift, (0, 1)))


def bright_lesion(c: Canvas, scene: Scene, strength: float) -> Array:
    """Brighten a region of the tissue, with an uneven edge and inside."""
    return _lesion(c, scene, _between(0.12, 0.45, strength))


def dark_lesion(c: Canvas, scene: Scene, strength: float) -> Array:
    """Darken a region of the tissue, with an uneven edge and inside."""
    return _lesion(c, scene, -_between(0.15, 0.5, strength))


def _lesion(c: Canvas, scene: Scene, change: float) -> Array:
    centre, radius = _centre(c, scene), c.uniform(0.08, 0.34)
    region = c.blob(centre, radius, c.uniform(0.1, 0.6), c.uniform(2, 8))
    if c.chance(0.3):
        region = region - np.float32(0.8) * c.blob(centre, radius * 0.5, 0.3, 3)
    uneven = 1 + np.float32(0.25) * c.noise(0.9)
    if change < 0:
        return (
            scene.image * (1 + np.clip(region * scene.inside * uneven * np.float32(1.6 * change), -0.95, 0))[..., None]
        )
    return scene.image + (region * scene.inside * uneven * np.float32(change))[..., None]
