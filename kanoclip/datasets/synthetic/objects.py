"""Object kinds: things on a background. Each function draws one normal image."""

import numpy as np

from kanoclip.datasets.synthetic.canvas import Array, Canvas, Scene, lit, mix, triangle


def placed(c: Canvas, object_image: Array, distance: Array, colour: str, backdrop: Array | None = None) -> Scene:
    """Place an object (its image and signed distance) on a background, with a soft contact shadow."""
    backdrop = c.backdrop() if backdrop is None else backdrop
    shadow = np.exp(-np.maximum(distance, 0) * np.float32(c.uniform(8, 25))) * np.float32(c.uniform(0.1, 0.5))
    coverage = c.cover(distance)
    return Scene(mix(backdrop * (1 - shadow)[..., None], object_image, coverage), coverage, backdrop, colour)


def box(u: Array, v: Array, half_u: float, half_v: float, corner: float) -> Array:
    """Return the signed distance to a rectangle with rounded corners."""
    qu, qv = np.abs(u) - np.float32(half_u - corner), np.abs(v) - np.float32(half_v - corner)
    outside = np.hypot(np.maximum(qu, 0), np.maximum(qv, 0))
    return outside + np.minimum(np.maximum(qu, qv), 0) - np.float32(corner)


def brushed(c: Canvas, amount: float = 0.05) -> Array:
    """Return a brightness factor (S, S) of a slightly brushed surface."""
    return 1 + np.float32(amount) * c.noise(0.4, c.uniform(1, 12), c.uniform(0, np.pi))


def washer(c: Canvas) -> Scene:
    """Washer: a flat metal ring with a sheen around the hole."""
    colour, rgb = c.colour("silver", "grey", "yellow", "black", "brown")
    u, v = c.pose(0.65, 0.9)
    radius, hole = np.hypot(u, v), c.uniform(0.3, 0.6)
    sheen = np.cos(c.rng.integers(2, 4) * np.arctan2(v, u) + np.float32(c.uniform(0, 6)))
    distance = np.maximum(radius - 1, np.float32(hole) - radius)
    bevel = np.exp(distance * 14) * 0.25
    return placed(c, rgb * ((1 + 0.25 * sheen + bevel) * brushed(c))[..., None], distance, colour)


def bottle(c: Canvas) -> Scene:
    """Bottle from above: concentric glass walls and a dark opening."""
    colour, rgb = c.colour("brown", "green", "black", "blue", "white")
    u, v = c.pose(0.78, 0.95)
    radius = np.hypot(u, v)
    walls = 0.5 + 0.5 * np.cos(radius * np.float32(c.uniform(18, 26)))
    glints = np.clip(np.cos(np.arctan2(v, u) - np.float32(c.uniform(-3, 3))) - 0.75, 0, 1) * 3
    rim = np.exp(-(((radius - c.uniform(0.68, 0.78)) * 16) ** 2)) + 0.6 * np.exp(-(((radius - 0.93) * 20) ** 2))
    glass = rgb * (0.6 + 0.5 * walls)[..., None] + (rim * (0.15 + 0.5 * glints))[..., None]
    opening = c.cover(radius - np.float32(c.uniform(0.45, 0.58)), 3)
    image = mix(glass, rgb * 0.25 + np.zeros_like(glass), opening)
    return placed(c, image, radius - 1, colour, c.backdrop("white", "white", "grey", "beige", "black"))


def bar(c: Canvas) -> Scene:
    """Bar: a round rod with turned rings."""
    colour, rgb = c.colour("silver", "grey", "brown", "yellow", "black")
    u, v = c.pose(0.9, 1.1)
    half = c.uniform(0.18, 0.32)
    roundness = np.sqrt(np.clip(1 - (v / half) ** 2, 0, 1))
    side = np.exp(-(((v / half + c.uniform(-0.5, 0.5)) * 3) ** 2))
    rings = np.where(np.abs(triangle(u * 2) - 0.5) < 0.06, np.float32(0.75), np.float32(1))
    image = rgb * ((0.35 + 0.6 * roundness + 0.45 * side) * rings * brushed(c))[..., None]
    return placed(c, image, box(u, v, c.uniform(0.75, 0.95), half, 0.06), colour)


def screw(c: Canvas) -> Scene:
    """Screw from the side: head, threaded shaft, tip."""
    colour, rgb = c.colour("silver", "grey", "yellow", "black")
    u, v = c.pose(0.85, 1.05)
    half, head = c.uniform(0.12, 0.18), c.uniform(0.28, 0.38)
    thread = np.float32(half) * (1 + 0.16 * np.cos(2 * np.pi * (u * np.float32(c.uniform(7, 11)) + v * 1.2)))
    taper = np.clip((np.float32(0.85) - u) / 0.3, 0, 1)
    shaft = np.maximum(np.abs(v) - thread * taper, np.abs(u - 0.1) - 0.8)
    cap = box(u + 0.72, v, 0.12, head, 0.06)
    grooves = 0.8 + 0.3 * np.cos(2 * np.pi * (u * 9 + v * 1.2)) * (u > -0.6)
    roundness = np.sqrt(np.clip(1 - (v / np.float32(head)) ** 2, 0, 1))
    image = rgb * ((0.4 + 0.7 * roundness) * grooves * brushed(c))[..., None]
    return placed(c, image, np.minimum(shaft, cap), colour, c.backdrop("white", "grey", "black"))


def nut(c: Canvas) -> Scene:
    """Hexagonal nut with a threaded hole."""
    colour, rgb = c.colour("silver", "grey", "yellow", "brown")
    u, v = c.pose(0.6, 0.85)
    edges = [np.abs(u * np.float32(np.cos(a)) + v * np.float32(np.sin(a))) for a in (0, np.pi / 3, 2 * np.pi / 3)]
    hexagon, radius = np.maximum(np.maximum(edges[0], edges[1]), edges[2]), np.hypot(u, v)
    hole = c.uniform(0.42, 0.55)
    thread = 0.25 * np.cos(np.arctan2(v, u) + radius * 40) * np.exp(-(((radius - hole - 0.05) * 12) ** 2))
    chamfer = np.exp(-(((radius - c.uniform(0.85, 0.95)) * 14) ** 2)) * 0.3
    facets = 0.12 * np.cos(np.round(np.arctan2(v, u) * 3 / np.pi) * 2 + np.float32(c.uniform(0, 6)))
    image = rgb * ((0.95 + thread + chamfer + facets) * brushed(c))[..., None]
    return placed(c, image, np.maximum(hexagon - 0.9, np.float32(hole) - radius), colour)


def gear(c: Canvas) -> Scene:
    """Gear: teeth around a hub, a bore, sometimes holes in the web."""
    colour, rgb = c.colour("silver", "grey", "yellow", "black", "white", "brown")
    u, v = c.pose(0.75, 0.92)
    radius, angle, teeth = np.hypot(u, v), np.arctan2(v, u), int(c.rng.integers(10, 20))
    outline = 0.88 + 0.1 * np.clip(2.5 * np.cos(teeth * angle), -1, 1)
    distance = np.maximum(radius - outline.astype(np.float32), np.float32(c.uniform(0.12, 0.25)) - radius)
    if c.chance(0.6):
        holes, ring = int(c.rng.integers(3, 7)), c.uniform(0.5, 0.58)
        sector = (angle * holes / (2 * np.pi) - np.round(angle * holes / (2 * np.pi))) * 2 * np.pi / holes
        distance = np.maximum(
            distance, np.float32(0.11) - np.hypot(radius * np.cos(sector) - ring, radius * np.sin(sector))
        )
    rims = np.exp(-(((radius - 0.72) * 18) ** 2)) * 0.25 + np.exp(-(((radius - 0.34) * 22) ** 2)) * 0.25
    sheen = 0.15 * np.cos(2 * angle + np.float32(c.uniform(0, 6)))
    return placed(c, rgb * ((0.9 + rims + sheen) * brushed(c))[..., None], distance.astype(np.float32), colour)


def pill(c: Canvas) -> Scene:
    """Pill: a round or oval tablet with a score line and sometimes coloured flecks."""
    colour, rgb = c.colour("white", "white", "pink", "yellow", "blue", "beige", "orange")
    u, v = c.pose(0.6, 0.85)
    distance = box(u, v, 0.95, c.uniform(0.55, 0.95), 0.54)
    dome = np.clip(1 - np.exp(distance * 7), 0, 1)
    image = rgb * ((0.6 + 0.42 * dome) * (1 + np.float32(0.015) * c.noise(0.3)))[..., None]
    if c.chance(0.7):
        score = np.exp(-((u / 0.035) ** 2)) * (np.abs(v) < 0.5)
        image = image * (1 - 0.3 * score * np.sign(u + 0.01))[..., None]
    if c.chance(0.4):
        _, fleck = c.colour("red", "brown", "blue")
        image = mix(image, fleck + np.zeros_like(image), np.clip(c.band_noise(18) * 2 - 4.2, 0, 1) * 0.7)
    return placed(c, image, distance, colour, c.backdrop("black", "grey", "blue", "white"))


def capsule(c: Canvas) -> Scene:
    """Capsule: two halves of different colours, a seam, a highlight, printed letters."""
    colour, first = c.colour("black", "red", "blue", "green", "orange", "yellow")
    _, second = c.colour("white", "orange", "yellow", "grey", "pink")
    u, v = c.pose(0.85, 1.0)
    half, seam = c.uniform(0.3, 0.4), c.uniform(-0.1, 0.1)
    body = np.where((u > seam)[..., None], first, second)
    roundness = np.sqrt(np.clip(1 - (v / half) ** 2, 0, 1))
    gloss = np.exp(-(((v / half + 0.45) * 5) ** 2)) * np.float32(c.uniform(0.1, 0.45))
    lip = np.exp(-(((u - seam) / 0.015) ** 2)) * 0.3
    image = body * ((0.45 + 0.6 * roundness) * (1 - lip))[..., None] + gloss[..., None]
    letters = (np.abs(v - 0.05) < 0.08) & (np.abs(u + 0.4) < 0.22) & (np.sin(u * 55) * np.cos(v * 40) > 0)
    image = mix(image, np.full_like(image, 0.25), letters * np.float32(c.uniform(0, 0.7)))
    return placed(c, image, box(u, v, 0.92, half, half - 0.005), colour, c.backdrop("white", "grey", "beige", "black"))


def button(c: Canvas) -> Scene:
    """Button: a disc with a raised rim and four holes."""
    colour, rgb = c.colour()
    u, v = c.pose(0.65, 0.88)
    radius = np.hypot(u, v)
    holes = np.float32(c.uniform(0.09, 0.13)) - np.hypot(np.abs(u) - 0.2, np.abs(v) - 0.2)
    height = 2.5 * np.exp(-(((radius - 0.86) * 8) ** 2)) * c.size / 64
    image = rgb * (lit(height, c.uniform(0, 6), 0.5) * (1 + np.float32(0.03) * c.noise(1.5)))[..., None]
    return placed(c, image, np.maximum(radius - 1, holes), colour)


def biscuit(c: Canvas) -> Scene:
    """Biscuit: a baked disc, darker at the edge, with pricked holes."""
    colour, rgb = c.colour("brown", "beige", "orange")
    u, v = c.pose(0.7, 0.9)
    radius = np.hypot(u, v) + np.float32(0.012) * c.noise(1.5)
    crust = 1.1 - 0.35 * np.clip(radius, 0, 1) ** 4
    crumbs = lit(c.band_noise(c.uniform(10, 18), 0.6), c.uniform(0, 6), 0.12)
    pricks = np.exp(-((triangle(u * 2.5) ** 2 + triangle(v * 2.5) ** 2) / 0.012)) * (radius < 0.75) * 0.5
    image = rgb * (crust * crumbs * (1 - pricks))[..., None]
    return placed(c, image, radius - 1, colour)


def cable(c: Canvas) -> Scene:
    """Cable cut across: three insulated cores with copper strands in a sheath."""
    colour, sheath = c.colour("grey", "white", "black", "orange")
    backdrop, base_angle = c.backdrop("black", "grey", "white"), c.uniform(0, 2 * np.pi)
    u, v = c.pose(0.85, 0.95, turn=0.3)
    radius = np.hypot(u, v)
    filler = sheath * (0.55 + 0.05 * c.noise(0.8))[..., None]
    bare = mix(filler, sheath * (1 + 0.03 * c.noise(0.6))[..., None], c.cover(np.float32(0.86) - radius))
    image, parts = bare, []
    for index, name in enumerate(("brown", "blue", "green")):
        angle = base_angle + index * 2 * np.pi / 3
        du, dv = u - np.float32(0.45 * np.cos(angle)), v - np.float32(0.45 * np.sin(angle))
        core = np.hypot(du, dv)
        _, jacket = c.colour(name)
        strands = (0.5 + 0.5 * np.cos(du * 45)) * (0.5 + 0.5 * np.cos((dv + du * 0.5) * 45))
        copper = np.array((0.72, 0.45, 0.26), np.float32) * (0.45 + 0.8 * strands)[..., None]
        part = c.cover(core - 0.37)
        image = mix(image, mix(jacket + np.zeros_like(image), copper, c.cover(core - 0.26)), part)
        parts.append(part)
    scene = placed(c, image, radius - 1, colour, backdrop)
    bare = mix(backdrop, bare, scene.inside)
    return Scene(scene.image, scene.inside, backdrop, colour, tuple(parts), bare)


def board(c: Canvas) -> Scene:
    """Circuit board: traces, pads and mounted components."""
    colour, rgb = c.colour("green", "green", "blue", "black", "red")
    bare = rgb * (1 + np.float32(0.03) * c.noise(0.5))[..., None]
    u, v = c.posed(c.uniform(-0.06, 0.06), (c.uniform(-0.2, 0.2), c.uniform(-0.2, 0.2)))
    pitch = c.uniform(5, 8)
    lanes = c.cover(triangle(v * np.float32(pitch)) - 0.12, 4) * (np.sin(u * 7 + np.round(v * pitch) * 5) > -0.3)
    bare = mix(bare, bare * 0.6 + np.array((0.2, 0.26, 0.16), np.float32), lanes * np.float32(0.6))
    vias = np.hypot(triangle(u * 3.3), triangle(v * 3.3)) / 3.3 - 0.035
    bare = mix(bare, np.full_like(bare, 0.75), c.cover(vias))
    image, parts = bare, []
    for row in (-0.55, 0.05, 0.6):
        for column in (-0.6, 0.0, 0.6):
            if c.chance(0.75):
                coverage, component = _component(c, u - np.float32(column), v - np.float32(row))
                image = mix(image, component, coverage)
                parts.append(coverage)
    return Scene(image, np.ones_like(u), np.full_like(image, 0.1), colour, tuple(parts), bare)


def _component(c: Canvas, u: Array, v: Array) -> tuple[Array, Array]:
    """Return the coverage and image of a chip with legs or of a capacitor."""
    if c.chance(0.3):
        radius = np.hypot(u, v)
        can = np.full((*u.shape, 3), c.uniform(0.5, 0.8), np.float32) * (1 - 0.3 * (u > 0.07))[..., None]
        return c.cover(radius - np.float32(c.uniform(0.12, 0.19))), can
    half_u, half_v = c.uniform(0.1, 0.24), c.uniform(0.07, 0.15)
    body = box(u, v, half_u, half_v, 0.01)
    legs = np.maximum(box(u, v, half_u, half_v + 0.07, 0.01), np.float32(0.03) - triangle(u * 9) / 9)
    _, package = c.colour("black", "black", "brown", "grey", "beige")
    image = mix(np.full((*u.shape, 3), 0.75, np.float32), package + np.zeros((*u.shape, 3), np.float32), c.cover(body))
    return c.cover(np.minimum(body, legs)), image


def connector(c: Canvas) -> Scene:
    """Connector: a block with two rows of metal pins."""
    colour, rgb = c.colour("white", "black", "grey", "blue", "beige", "green")
    backdrop = c.backdrop()
    u, v = c.pose(0.8, 0.95, turn=0.4)
    count = int(c.rng.integers(3, 6))
    distance = box(u, v, 0.95, 0.6, 0.08)
    rim = np.exp(-(((distance + 0.09) * 30) ** 2)) * 0.3
    bare = rgb * ((0.9 + rim) * (1 + np.float32(0.02) * c.noise(0.8)))[..., None]
    image, parts = bare, []
    for row in (-0.25, 0.25):
        for column in np.linspace(-0.7, 0.7, count):
            pin = box(u - np.float32(column), v - np.float32(row), 0.09, 0.12, 0.03)
            metal = np.full_like(bare, 0.72) * (1 - 2 * np.abs(u - np.float32(column)))[..., None]
            part = c.cover(pin)
            image = mix(image, metal, part)
            parts.append(part)
    scene = placed(c, image, distance, colour, backdrop)
    return Scene(scene.image, scene.inside, backdrop, colour, tuple(parts), mix(backdrop, bare, scene.inside))
