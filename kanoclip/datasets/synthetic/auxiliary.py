"""Kinds used only by the auxiliary dataset; the embedded backbone is never pretrained on them."""

import numpy as np

from kanoclip.datasets.synthetic.canvas import Array, Canvas, Scene, hashed, lit, mix, triangle
from kanoclip.datasets.synthetic.objects import box, brushed, placed
from kanoclip.datasets.synthetic.textures import surface


def brick(c: Canvas) -> Scene:
    """Brick wall: rough bricks in a running bond."""
    colour, rgb = c.colour("red", "brown", "orange", "beige", "grey")
    _, mortar = c.colour("grey", "white", "beige")
    u, v = c.posed(c.uniform(-0.08, 0.08), (c.uniform(-1, 1), c.uniform(-1, 1)), 1 / c.uniform(3, 5))
    u = u / 2.2 + 0.5 * (np.floor(v) % 2)
    edge = 0.5 - np.maximum(triangle(u - 0.5) * 1.1, triangle(v - 0.5)) + np.float32(0.015) * c.noise(1.0)
    tone = 0.75 + 0.5 * hashed(np.floor(u), np.floor(v), int(c.rng.integers(1 << 30)))
    rough = lit(c.noise(0.8) * 0.8, c.uniform(0, 2 * np.pi), 0.25)
    joint = np.clip(1.6 - edge / np.float32(c.uniform(0.04, 0.08)), 0, 1)
    ground = mortar * (1 + np.float32(0.05) * c.noise(0.3))[..., None]
    return surface(mix(rgb * (tone * rough)[..., None], ground, joint), colour, 0.12)


def perforated(c: Canvas) -> Scene:
    """Perforated sheet: a hexagonal grid of holes."""
    colour, rgb = c.colour("silver", "grey", "white", "yellow", "black", "blue")
    u, v = c.posed(c.uniform(-0.5, 0.5), scale=1 / c.uniform(3.5, 7))
    waves = [
        np.cos(2 * np.pi * (u * np.float32(np.cos(a)) + v * np.float32(np.sin(a)))) for a in np.pi * np.arange(3) / 3
    ]
    height = (waves[0] + waves[1] + waves[2]) / 3 + np.float32(0.04) * c.noise(1.4)
    wall = np.clip((0.15 - height) * 6, 0, 1)
    inside = rgb * (0.35 + 0.3 * np.clip(height, -0.5, 1))[..., None]
    return surface(mix(inside, rgb * (1.15 + np.float32(0.06) * c.noise(0.5))[..., None], wall), colour, 0.05)


def terrazzo(c: Canvas) -> Scene:
    """Terrazzo: chips of several colours in an even ground."""
    colour, rgb = c.colour("white", "grey", "beige", "pink", "black")
    image = rgb * (1 + np.float32(0.03) * c.noise(0.4))[..., None]
    for _ in range(3):
        _, chip = c.colour()
        chips = np.clip((c.band_noise(c.uniform(7, 13), 0.4) - c.uniform(0.9, 1.4)) * 6, 0, 1)
        image = mix(image, chip + np.zeros_like(image), chips * np.float32(0.9))
    return surface(image, colour)


def tartan(c: Canvas) -> Scene:
    """Tartan: crossing bands of colour on a twill."""
    colour, ground = c.colour("red", "green", "blue", "beige", "black")
    u, v = c.posed(c.uniform(-0.3, 0.3), scale=1 / c.uniform(1.2, 2.5))
    image = ground + np.zeros((*u.shape, 3), np.float32)
    for place in c.rng.uniform(0, 1, 3):
        _, band = c.colour()
        half = np.float32(c.uniform(0.03, 0.15))
        for along in (u, v):
            image = mix(image, band + np.zeros_like(image), np.clip((half - triangle(along + place)) * 60, 0, 1) * 0.5)
    twill = 1 + np.float32(0.1) * np.cos(2 * np.pi * (u + v) * np.float32(c.uniform(14, 22)))
    return surface(image * (twill * (1 + np.float32(0.05) * c.noise(0.2)))[..., None], colour)


def coin(c: Canvas) -> Scene:
    """Coin: a struck disc with a raised rim and an emblem."""
    colour, rgb = c.colour("silver", "yellow", "brown", "grey")
    u, v = c.pose(0.65, 0.9)
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    rim = np.exp(-(((radius - 0.92) * 18) ** 2))
    beads = np.exp(-(((radius - 0.8) * 24) ** 2)) * (0.5 + 0.5 * np.cos(angle * c.rng.integers(24, 40)))
    lobes = c.uniform(0.3, 0.45) * (1 + c.uniform(0.1, 0.35) * np.cos(angle * c.rng.integers(3, 8)))
    emblem = np.clip((lobes - radius) * 14, 0, 1)
    relief = lit((rim + beads + emblem) * np.float32(c.size / 40), c.uniform(0, 2 * np.pi), 0.3)
    return placed(c, rgb * (relief * brushed(c, 0.03))[..., None], radius - 1, colour)


def key(c: Canvas) -> Scene:
    """Key: a ring, a shaft and teeth of random depth."""
    colour, rgb = c.colour("silver", "yellow", "grey", "brown")
    u, v = c.pose(0.8, 1.0)
    radius = np.hypot(u + 0.6, v)
    ring = np.maximum(radius - 0.36, np.float32(c.uniform(0.14, 0.2)) - radius)
    shaft = box(u - 0.3, v, 0.62, 0.09, 0.03)
    depths = c.rng.uniform(0.08, 0.24, 7).astype(np.float32)
    cut = depths[np.clip(((u - 0.3) * 10).astype(int), 0, 6)]
    teeth = np.maximum(np.abs(u - 0.62) - 0.28, np.abs(v - cut / 2) - cut / 2 - 0.04)
    groove = 1 - 0.25 * np.exp(-((v * 30) ** 2)) * (u > -0.2)
    return placed(c, rgb * (groove * brushed(c))[..., None], np.minimum(np.minimum(ring, shaft), teeth), colour)


def spring(c: Canvas) -> Scene:
    """Spring from the side: the front halves of its coils."""
    colour, rgb = c.colour("silver", "grey", "black", "yellow")
    u, v = c.pose(0.8, 1.0)
    coils, half = np.float32(c.uniform(5, 8)), np.float32(c.uniform(0.25, 0.4))
    away = triangle(u * coils + v * np.float32(c.uniform(0.8, 1.4))) / coils
    wire = np.float32(c.uniform(0.035, 0.055))
    distance = np.maximum(np.maximum(away - wire, np.abs(v) - half), np.abs(u) - 0.9)
    roundness = np.sqrt(np.clip(1 - (away / wire) ** 2, 0, 1)) * np.sqrt(np.clip(1.1 - (v / half) ** 2, 0.1, 1))
    return placed(c, rgb * ((0.4 + 0.8 * roundness) * brushed(c))[..., None], distance, colour)


def bulb(c: Canvas) -> Scene:
    """Light bulb: a frosted globe on a threaded base."""
    colour, rgb = c.colour("white", "yellow", "beige", "blue")
    _, metal = c.colour("silver", "grey")
    u, v = c.pose(0.75, 0.95, turn=0.6)
    globe = np.hypot(u, v + 0.25) - np.float32(0.55)
    neck = box(u, v - 0.35, 0.27, 0.25, 0.1)
    base = box(u, v - 0.7, 0.22, 0.22, 0.04)
    sheen = 0.75 + 0.4 * np.exp(-((u + 0.2) ** 2 + (v + 0.45) ** 2) * 8)
    thread = 0.8 + 0.3 * np.cos(v * np.float32(c.uniform(45, 60)))
    image = mix(rgb * sheen[..., None], metal * (thread * brushed(c))[..., None], c.cover(base))
    return placed(c, image, _union(globe, neck, base), colour, c.backdrop("black", "grey", "blue", "beige"))


def _union(*distances: Array) -> Array:
    return np.minimum.reduce(distances)
