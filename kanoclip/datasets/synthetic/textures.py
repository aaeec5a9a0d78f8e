"""Texture kinds: surfaces that fill the image. Each function draws one normal image."""

import numpy as np

from kanoclip.datasets.synthetic.canvas import Array, Canvas, Scene, hashed, lit, mix, triangle


def surface(image: Array, colour: str, hollow: float = 0.1) -> Scene:
    """Return a scene without a background; holes show a dark grey of brightness `hollow`."""
    return Scene(image, np.ones(image.shape[:2], np.float32), np.full_like(image, hollow), colour)


def weave(c: Canvas) -> Scene:
    """Woven fabric: threads over and under."""
    colour, warp = c.colour()
    weft = np.clip(warp * c.uniform(0.7, 1.3), 0, 1)
    u, v = c.posed(c.uniform(-0.5, 0.5) + c.rng.integers(2) * np.pi / 2, scale=1 / c.uniform(5, 10))
    wobble = c.noise(1.5) * np.float32(0.06)
    u, v = u + wobble, v - wobble
    over = (np.floor(u) + np.floor(v)) % 2
    along_u, along_v = np.cos(np.pi * (u - np.floor(u) - 0.5)), np.cos(np.pi * (v - np.floor(v) - 0.5))
    height = np.where(over > 0, along_u * (0.6 + 0.4 * along_v), along_v * (0.6 + 0.4 * along_u))
    image = np.where(over[..., None] > 0, warp, weft) * (0.45 + 0.6 * height)[..., None]
    return surface(image * (1 + np.float32(0.07) * c.noise(0.2))[..., None], colour)


def knit(c: Canvas) -> Scene:
    """Knitted fabric: columns of V-shaped stitches."""
    colour, rgb = c.colour()
    u, v = c.posed(c.uniform(-0.3, 0.3), scale=1 / c.uniform(4, 7))
    wobble = c.noise(1.5) * np.float32(0.05)
    side = triangle(u + wobble)
    stitch = np.cos(2 * np.pi * (v * 1.4 + 1.3 * side + wobble))
    height = 0.55 + 0.3 * stitch - 0.35 * np.cos(4 * np.pi * side)
    image = rgb * np.clip(0.45 + 0.6 * height, 0.1, 1.3)[..., None]
    return surface(image * (1 + np.float32(0.08) * c.noise(0.4))[..., None], colour)


def mesh(c: Canvas) -> Scene:
    """Wire mesh: round wires over an empty background."""
    colour, rgb = c.colour("black", "grey", "silver", "white", "green")
    backdrop = c.backdrop("black", "white", "grey", "beige")
    u, v = c.posed(c.uniform(-np.pi / 4, np.pi / 4), scale=1 / c.uniform(3, 6.5))
    wobble = c.noise(2.0) * np.float32(0.03)
    half = c.uniform(0.1, 0.2)
    distance_u, distance_v = triangle(u + wobble) / half, triangle(v - wobble) / half
    nearest = np.minimum(distance_u, distance_v)
    wire = np.clip((1 - nearest) * 3, 0, 1)
    shine = 0.55 + 0.7 * np.sqrt(np.clip(1 - nearest**2, 0, 1))
    wires = rgb * (shine * (1 + np.float32(0.05) * c.noise(0.5)))[..., None]
    return Scene(mix(backdrop, wires, wire), np.ones_like(wire), backdrop, colour)


def wood(c: Canvas) -> Scene:
    """Wood: growth rings cut lengthwise, and fine fibres."""
    colour, light = c.colour("brown", "beige", "orange")
    dark = light * np.float32(c.uniform(0.45, 0.75))
    angle = c.uniform(-0.25, 0.25) + c.rng.integers(2) * np.pi / 2
    across = c.posed(angle)[1] * np.float32(c.uniform(2, 6)) + c.noise(1.6, 5, angle) * np.float32(c.uniform(0.2, 0.8))
    rings = triangle(across) * 2
    fibres = c.noise(0.6, 18, angle)
    image = mix(light + np.zeros_like(rings)[..., None], dark + np.zeros(3, np.float32), rings**1.5 * 0.8)
    return surface(image * (1 + np.float32(0.07) * fibres)[..., None], colour, 0.15)


def granite(c: Canvas) -> Scene:
    """Granite: grains of three tones."""
    colour, rgb = c.colour("grey", "pink", "black", "beige", "white")
    grains = c.band_noise(c.uniform(10, 22), 0.6)
    flecks = c.band_noise(c.uniform(14, 28), 0.5)
    image = rgb * (1 + np.float32(0.16) * np.clip(grains, -1.5, 1.5))[..., None]
    image = mix(image, image * 0.35, np.clip((flecks - 1.1) * 3, 0, 1))
    image = mix(image, 0.5 + 0.5 * image, np.clip((-flecks - 1.2) * 3, 0, 1))
    return surface(image, colour)


def leather(c: Canvas) -> Scene:
    """Leather: bulging cells between fine furrows."""
    colour, rgb = c.colour("brown", "black", "red", "beige", "orange", "grey", "blue")
    cells = c.band_noise(c.uniform(8, 18), 0.45)
    furrows = -np.exp(-(cells**2) * 6)
    height = cells * 0.5 + furrows * 1.2
    shade = lit(height, c.uniform(0, 2 * np.pi), c.uniform(0.15, 0.4)) * (1 + 0.15 * furrows)
    return surface(rgb * (shade * (1 + np.float32(0.03) * c.noise(0.3)))[..., None], colour)


def brushed_metal(c: Canvas) -> Scene:
    """Brushed metal: fine parallel lines and a broad sheen."""
    colour, rgb = c.colour("silver", "grey", "silver", "yellow", "brown")
    angle = c.uniform(-0.15, 0.15) + c.rng.integers(2) * np.pi / 2
    lines = c.noise(c.uniform(0.1, 0.5), c.uniform(15, 40), angle)
    sheen = np.cos(c.posed(angle)[1] * np.float32(c.uniform(0.7, 2.0)) + np.float32(c.uniform(0, 6)))
    return surface(rgb * (1 + np.float32(c.uniform(0.03, 0.1)) * lines + 0.15 * sheen)[..., None], colour, 0.08)


def tile(c: Canvas) -> Scene:
    """Glazed tiles with grout between them."""
    colour, rgb = c.colour("white", "beige", "blue", "green", "grey", "red", "black")
    _, grout = c.colour("grey", "white", "black")
    u, v = c.posed(c.uniform(-0.15, 0.15), (c.uniform(-1, 1), c.uniform(-1, 1)), 1 / c.uniform(1.0, 2.6))
    u = u + 0.5 * (np.floor(v) % 2) * c.rng.integers(2)
    edge = 0.5 - np.maximum(triangle(u - 0.5), triangle(v - 0.5))
    joint = c.uniform(0.02, 0.05)
    tone = 0.88 + 0.24 * hashed(np.floor(u), np.floor(v), int(c.rng.integers(1 << 30)))
    bevel = 1 + 0.25 * np.exp(-edge * 25)
    glaze = 1 + np.float32(0.04) * c.noise(1.6)
    image = mix(rgb * (tone * bevel * glaze)[..., None], grout * glaze[..., None], np.clip(1.5 - edge / joint, 0, 1))
    return surface(image, colour, 0.3)


def carpet(c: Canvas) -> Scene:
    """Carpet: a dense pile of short fibres."""
    colour, rgb = c.colour("grey", "blue", "beige", "brown", "red", "green")
    pile = c.band_noise(c.uniform(18, 34), 0.6)
    u, v = c.posed(c.uniform(-0.2, 0.2), scale=1 / c.uniform(8, 14))
    loops = np.cos(2 * np.pi * u) * np.cos(2 * np.pi * v)
    shade = 1 + np.float32(0.2) * pile + np.float32(c.uniform(0, 0.2)) * loops
    return surface(rgb * shade[..., None], colour)


def paper(c: Canvas) -> Scene:
    """Paper: almost even, with fibres, sometimes ruled."""
    colour, rgb = c.colour("white", "beige", "white", "yellow", "pink", "grey", jitter=0.03)
    grain = np.float32(0.015) * c.noise(0.2) + np.float32(0.02) * c.noise(1.2)
    image = rgb * (1 + grain)[..., None]
    if c.chance(0.4):
        rules = np.clip(1 - triangle(c.posed(c.uniform(-0.3, 0.3))[1] * np.float32(c.uniform(3, 6))) * 25, 0, 1)
        image = mix(image, np.full_like(image, 0.45), rules * 0.6)
    return surface(image, colour, 0.2)


def concrete(c: Canvas) -> Scene:
    """Concrete: cloudy grey with small pores."""
    colour, rgb = c.colour("grey", "grey", "beige", "white", jitter=0.03)
    clouds, sand, pores = c.noise(1.4), c.noise(0.2), c.band_noise(c.uniform(9, 16))
    image = rgb * (1 + 0.06 * clouds + 0.05 * sand)[..., None]
    return surface(mix(image, image * 0.5, np.clip((pores - 2.3) * 4, 0, 1)), colour)


def marble(c: Canvas) -> Scene:
    """Polished marble: veins in a cloudy ground."""
    colour, rgb = c.colour("white", "beige", "green", "black", "pink", "grey")
    _, vein = c.colour("grey", "brown", "white", "black")
    turbulence = c.noise(1.7, c.uniform(1, 3), c.uniform(0, np.pi))
    veins = np.exp(-np.abs(np.sin(turbulence * c.uniform(0.8, 1.6))) * c.uniform(6, 16))
    image = mix(rgb * (1 + 0.06 * c.noise(1.5))[..., None], vein + np.zeros(3, np.float32), veins * c.uniform(0.3, 0.7))
    return surface(image, colour)


def foam(c: Canvas) -> Scene:
    """Foam: bubbles of one size, dark inside."""
    colour, rgb = c.colour("yellow", "grey", "blue", "pink", "white", "green")
    cells = c.band_noise(c.uniform(9, 18), 0.3)
    bubbles = np.clip((cells - 0.4) * 1.6, 0, 1)
    shade = lit(-bubbles * 2, c.uniform(0, 2 * np.pi), 0.3) * (1 - 0.45 * bubbles)
    return surface(rgb * shade[..., None], colour)


def corrugated(c: Canvas) -> Scene:
    """Corrugated sheet: parallel waves lit from the side."""
    colour, rgb = c.colour("silver", "grey", "green", "blue", "brown", "red", "white")
    angle = c.uniform(-0.2, 0.2) + c.rng.integers(2) * np.pi / 2
    wave = c.posed(angle)[0] * np.float32(c.uniform(4, 10)) + np.float32(0.03) * c.noise(1.6)
    shade = 0.85 + 0.3 * np.cos(2 * np.pi * wave) + 0.1 * np.cos(4 * np.pi * wave + c.uniform(0, 3))
    return surface(rgb * (shade * (1 + np.float32(0.03) * c.noise(0.6)))[..., None], colour)


def printed_cloth(c: Canvas) -> Scene:
    """Cloth printed with a motif that repeats on a plain ground."""
    colour, ground = c.colour()
    _, ink = c.colour()
    u, v = c.posed(c.uniform(-0.6, 0.6), scale=1 / c.uniform(2.5, 5))
    u = u + 0.5 * (np.floor(v) % 2)
    du, dv = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    petals = 1 + c.uniform(0, 0.5) * np.cos(c.rng.integers(3, 7) * np.arctan2(dv, du))
    motif = np.clip((c.uniform(0.15, 0.3) * petals - np.hypot(du, dv)) * 14, 0, 1)
    image = mix(ground + np.zeros_like(motif)[..., None], ink + np.zeros(3, np.float32), motif)
    return surface(image * (1 + np.float32(0.04) * c.noise(0.1))[..., None], colour)


def cast_surface(c: Canvas) -> Scene:
    """Cast surface: roughness of any spectrum in any colour."""
    colour, rgb = c.colour()
    rough = c.noise(c.uniform(0, 2), c.uniform(1, 3), c.uniform(0, np.pi), c.uniform(1, 12))
    relief = lit(rough, c.uniform(0, 2 * np.pi), c.uniform(0, 0.3)) + np.float32(c.uniform(0.02, 0.15)) * rough
    return surface(rgb * relief[..., None], colour)
