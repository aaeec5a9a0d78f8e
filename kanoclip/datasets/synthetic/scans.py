"""Scan kinds: slices as in medical imaging, ultrasound, a retina, a solar cell. They are schematic."""

import numpy as np

from kanoclip.datasets.synthetic.canvas import Array, Canvas, Scene, mix, triangle


def _grey(values: Array) -> Array:
    """Return a grey image (S, S, 3) from brightness (S, S)."""
    return np.repeat(values[..., None], 3, axis=2).astype(np.float32)


def _ellipse(u: Array, v: Array, half_u: float, half_v: float) -> Array:
    """Return the approximate signed distance to an ellipse."""
    return (np.hypot(u / np.float32(half_u), v / np.float32(half_v)) - 1) * np.float32(min(half_u, half_v))


def _slice(values: Array, inside: Array) -> Scene:
    image = _grey(values)
    return Scene(image, inside, np.full_like(image, 0.02), "grey", photo=False)


def brain(c: Canvas) -> Scene:
    """Brain-like slice: skull, folded grey matter, a midline and two ventricles."""
    u, v = c.pose(0.85, 1.0, turn=0.12, shift=0.05)
    half_u, half_v = c.uniform(0.7, 0.8), c.uniform(0.85, 0.95)
    head = _ellipse(u, v, half_u, half_v)
    skull, cortex = c.uniform(0.04, 0.09), c.uniform(0.3, 0.5)
    folds = np.cos(np.abs(c.band_noise(c.uniform(4, 7), 0.5)) * 4)
    depth = np.clip(-(head + skull + 0.06) * 4, 0, 1)
    tissue = cortex + 0.14 * depth + 0.07 * folds * (1 - 0.6 * depth) + 0.02 * c.noise(0.8)
    length = c.uniform(0.14, 0.26)
    ventricle = _ellipse(np.abs(u) - 0.1 - 0.12 * np.abs(v), v + 0.05, c.uniform(0.04, 0.08), length)
    tissue = tissue * (1 - 0.75 * c.cover(ventricle, 3))
    tissue = tissue * (1 - 0.5 * np.exp(-((u / 0.012) ** 2)) * (np.abs(v) > length))
    gap = c.cover(head + np.float32(skull), 2)
    bone = c.uniform(0.15, 0.95)
    values = np.float32(0.02) + c.cover(head) * (
        bone * (1 - gap) + gap * (0.06 + (tissue - 0.06) * c.cover(head + skull + 0.04, 2))
    )
    return _slice(values, c.cover(head + np.float32(skull + 0.08)))


def lung(c: Canvas) -> Scene:
    """Chest-like slice: body wall, two dark lungs with vessels, spine and heart."""
    u, v = c.pose(0.9, 1.02, turn=0.1, shift=0.04)
    body = _ellipse(u, v, 0.95, c.uniform(0.68, 0.8))
    side = np.sign(u)
    lungs = _ellipse(np.abs(u) - 0.45, v + 0.04 * side, c.uniform(0.3, 0.35), c.uniform(0.44, 0.54))
    wall = (
        0.48 + 0.05 * c.noise(1.2) + 0.25 * np.exp(-((body + 0.1) ** 2) / 0.001) * (np.sin(np.arctan2(v, u) * 16) > 0)
    )
    vessels = np.clip(c.band_noise(c.uniform(9, 14)) - 1.2, 0, 1) * 0.35
    heart = c.cover(_ellipse(u - 0.1, v + 0.15, 0.26, 0.3), 3)
    spine = c.cover(_ellipse(u, v - 0.5, 0.14, 0.14), 3)
    air = c.cover(lungs, 3) * (1 - heart)
    values = wall * (1 - air) + (0.1 + vessels) * air + 0.12 * heart + 0.35 * spine
    return _slice(np.float32(0.02) + values * c.cover(body, 2), c.cover(body + 0.08))


def liver(c: Canvas) -> Scene:
    """Abdomen-like slice: a large even organ beside darker and brighter ones."""
    u, v = c.pose(0.9, 1.0, turn=0.1, shift=0.04)
    body = _ellipse(u, v, 0.95, c.uniform(0.7, 0.8))
    values = 0.2 + 0.03 * c.noise(1.0)
    organ = _ellipse(u + 0.38 + 0.2 * v, v + 0.05, c.uniform(0.4, 0.5), c.uniform(0.4, 0.5))
    vessels = np.clip(np.abs(c.band_noise(5)) * -6 + 0.8, 0, 1)
    values = mix(values[..., None], (0.52 + 0.06 * vessels + 0.03 * c.noise(0.6))[..., None], c.cover(organ, 2))[..., 0]
    for du, dv, radius, tone in ((0.45, -0.2, 0.26, 0.35), (0.6, 0.2, 0.16, 0.6), (0.05, 0.5, 0.14, 0.9)):
        shape = _ellipse(u - du, v - dv, radius * c.uniform(0.85, 1.15), radius * c.uniform(0.85, 1.15))
        values = values + (np.float32(tone * c.uniform(0.9, 1.1)) - values) * c.cover(shape, 2)
    return _slice(np.float32(0.02) + values * c.cover(body, 2), c.cover(np.minimum(organ, np.float32(1)) + 0.03))


def ultrasound(c: Canvas) -> Scene:
    """Ultrasound-like scan: bright and dark layers with speckle, fading with depth."""
    depth = c.y * np.float32(0.5) + np.float32(0.5)
    layers = depth * np.float32(c.uniform(2.5, 5)) + np.float32(c.uniform(0.1, 0.35)) * c.noise(2.0, 3)
    tone = 0.42 + 0.22 * np.sin(2 * np.pi * layers) + 0.12 * np.sin(5.1 * np.pi * layers + 1)
    speckle = np.hypot(c.noise(0.7, 2.5), c.noise(0.7, 2.5)) * np.float32(0.6)
    values = tone * (0.35 + speckle) * (1.1 - np.float32(c.uniform(0.3, 0.7)) * depth) * np.float32(c.uniform(0.7, 1.1))
    return _slice(np.clip(values, 0.01, 1), np.ones_like(values))


def retina(c: Canvas) -> Scene:
    """Retina-like photograph: an orange disc, a bright optic disc, branching vessels."""
    u, v = c.pose(0.92, 1.05, turn=0.2, shift=0.03)
    radius = np.hypot(u, v)
    side = 1.0 if c.chance(0.5) else -1.0
    disc_u, disc_v = u - np.float32(0.5 * side), v
    ground = np.array((0.72, 0.36, 0.17), np.float32) * c.uniform(0.8, 1.1)
    image = ground * (1.05 - 0.4 * radius**2 + 0.04 * c.noise(1.2))[..., None]
    image = image * (1 - 0.3 * np.exp(-((u + 0.15 * side) ** 2 + v**2) / 0.03))[..., None]
    optic = np.exp(-((np.hypot(disc_u, disc_v) / 0.17) ** 4))
    image = mix(image, np.array((0.95, 0.8, 0.5), np.float32) + np.zeros_like(image), optic * 0.85)
    reach = np.hypot(disc_u, disc_v)
    bearing = (
        np.arctan2(disc_v, disc_u) + np.float32(0.35) * np.sin(reach * 5) * np.sign(v) + np.float32(0.08) * c.noise(1.8)
    )
    branches = triangle(bearing * np.float32(c.uniform(1.3, 1.8)) + np.float32(c.uniform(0, 1))) * reach
    vessels = np.exp(-((branches / (0.012 + 0.02 * np.exp(-reach * 2))) ** 2)) * (reach > 0.05)
    image = mix(image, ground * 0.45 + np.zeros_like(image), vessels * 0.75)
    inside = c.cover(radius - 0.95, 2)
    return Scene(image * inside[..., None], inside, np.zeros_like(image), "orange")


def solar_cell(c: Canvas) -> Scene:
    """Solar cell in electroluminescence: busbars, fine fingers, sometimes crystal grains."""
    u, v = c.posed(c.uniform(-0.03, 0.03) + c.rng.integers(2) * np.pi / 2)
    bars, fingers = c.uniform(1.0, 2.0), c.uniform(14, 26)
    values = c.uniform(0.4, 0.65) + 0.04 * c.noise(1.6) - 0.1 * (u * u + v * v)
    if c.chance(0.5):
        grains = c.band_noise(c.uniform(3, 6), 0.7)
        values = values - 0.14 * np.clip(np.abs(grains) - 0.7, 0, 1) - 0.06 * (grains > 0.5)
    values = values * (0.96 + 0.05 * np.cos(2 * np.pi * fingers * u))
    busbars = np.clip(1.6 - triangle(v * np.float32(bars) + 0.25) / bars / 0.03, 0, 1)
    values = values * (1 - 0.8 * busbars)
    corner = 0.95 - np.maximum(np.abs(u), np.abs(v))
    return _slice(values * np.clip(0.3 + corner * 12, 0.1, 1), np.ones_like(values))
