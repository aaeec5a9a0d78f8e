"""Defects for any image: those of the generator, and new ones made from a second photograph or the image itself.

A maker takes (canvas, normal scene, donor, strength) and returns the changed image (S, S, 3), before the camera model.
The donor is a crop of another photograph; strength runs from 0 (barely visible) to 1 (obvious). Sources: CutPaste
(Li et al. 2021), DRAEM (Zavrtanik et al. 2021), NSA (Schlüter et al. 2022).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from kanoclip.datasets.synthetic import DEFECTS, HELD_OUT_DEFECTS
from kanoclip.datasets.synthetic.canvas import Array, Canvas, Scene, mix

Maker = Callable[[Canvas, Scene, Array, float], Array]


def _centre(c: Canvas, scene: Scene) -> tuple[float, float]:
    chosen = np.flatnonzero(scene.inside > 0.9)
    row, column = divmod(int(chosen[c.rng.integers(chosen.size)]), c.size)
    return (float(c.x[row, column]), float(c.y[row, column]))


def _region(c: Canvas, scene: Scene, low: float = 0.06, high: float = 0.35, soft: bool = False) -> Array:
    """Return the coverage (S, S) of a region on the object: a blob, box, bar, ragged patch or cluster of spots."""
    centre, radius = _centre(c, scene), low * (high / low) ** c.uniform(0, 1)
    softness = c.uniform(3, 12) if soft else c.uniform(1, 2.5)
    form = int(c.rng.integers(5))
    if form == 0:
        region = c.blob(centre, radius, c.uniform(0.1, 0.8), softness)
    elif form in (1, 2):
        u, v = c.posed(c.uniform(0, np.pi), centre)
        aspect = c.uniform(0.5, 1.0) if form == 1 else c.uniform(0.08, 0.3)
        region = c.cover(np.maximum(np.abs(u) - np.float32(radius), np.abs(v) - np.float32(radius * aspect)), softness)
    elif form == 3:
        window = c.blob(centre, radius * 1.3, 0.3, 6)
        ragged = c.noise(c.uniform(1.0, 2.2), lowest=c.uniform(2, 10))
        region = window * np.clip((ragged - ragged[window > 0.5].mean() if (window > 0.5).any() else ragged) * 3, 0, 1)
    else:
        region = np.zeros_like(c.x)
        for _ in range(int(c.rng.integers(2, 7))):
            place = (centre[0] + radius * c.uniform(-1.5, 1.5), centre[1] + radius * c.uniform(-1.5, 1.5))
            region = np.maximum(region, c.blob(place, max(radius * c.uniform(0.15, 0.5), 0.03), 0.5, softness))
    return region * scene.inside


def _opacity(strength: float, least: float = 0.25) -> float:
    return least + (1 - least) * strength


def _matched(donor: Array, image: Array, region: Array) -> Array:
    """Return the donor, shifted to the mean colour of the image in a region."""
    weight = region[..., None] / (region.sum() + 1e-6)
    return donor + ((image - donor) * weight).sum((0, 1))


def _shifted(c: Canvas, image: Array) -> Array:
    """Return the image shifted by at least an eighth of its side, mirrored or transposed by chance."""
    other = np.roll(image, tuple(int(step) for step in c.rng.integers(c.size // 8, c.size * 7 // 8, 2)), (0, 1))
    if c.chance(0.4):
        other = other.transpose(1, 0, 2)
    return other[::-1] if c.chance(0.3) else other


def swapped_texture(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
    """Fill a shape with another texture (DRAEM)."""
    return mix(scene.image, donor, _region(c, scene) * _opacity(strength))


def feathered_patch(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
    """Insert a patch of another image with soft edges and, in half the cases, the colour of its surroundings."""
    region = _region(c, scene, soft=True)
    patch = _matched(donor, scene.image, region) if c.chance(0.5) else donor
    return mix(scene.image, patch, region * _opacity(strength, 0.35))


def cut_paste(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
    """Paste a recoloured piece of the image itself elsewhere (CutPaste)."""
    gain = 1 + np.float32(0.1 + 0.5 * strength) * c.rng.uniform(-1, 1, 3).astype(np.float32)
    return mix(scene.image, _shifted(c, scene.image) * gain, _region(c, scene) * _opacity(strength, 0.5))


def foreign_object(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
    """Put an opaque object on the surface, with a shadow."""
    region = _region(c, scene, 0.05, 0.25)
    tint = c.rng.uniform(0, 1, 3).astype(np.float32)
    thing = tint * (0.6 + 0.8 * (donor.mean(axis=2, keepdims=True) - 0.5))
    shadow = np.roll(region, (2, 2), (0, 1)) * np.float32(0.3)
    return mix(scene.image * (1 - shadow)[..., None], thing, region * _opacity(strength, 0.5))


def lost_structure(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
    """Remove the structure of a region: smooth, in the colours around it."""
    wide = gaussian_filter(scene.image, (8, 8, 0))
    return mix(scene.image, wide, _region(c, scene, 0.1, 0.35) * _opacity(strength, 0.6))


def rough_region(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
    """Add noise with a random spectrum to a region."""
    noise = c.noise(c.uniform(0, 1.5), c.uniform(1, 6), c.uniform(0, np.pi), c.uniform(1, 16))
    colours = (1 + 0.6 * c.rng.uniform(-1, 1, 3)).astype(np.float32)
    return scene.image + (_region(c, scene) * noise)[..., None] * colours * np.float32(0.06 + 0.25 * strength)


def tinted(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
    """Make a region darker, brighter or another colour, with hard or soft edges."""
    region = _region(c, scene, 0.05, 0.4, soft=c.chance(0.5))
    grey = c.uniform(-1, 1)
    shift = grey + (c.rng.uniform(-1, 1, 3) if c.chance(0.5) else np.zeros(3))
    shift = shift / max(float(np.abs(shift).max()), 1e-3) * (0.06 + 0.4 * strength)
    return scene.image + region[..., None] * shift.astype(np.float32)


def lines(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
    """Draw lines of any colour and width that end on the surface."""
    centre, tone = _centre(c, scene), c.rng.uniform(0, 1, 3).astype(np.float32)
    if c.chance(0.5):
        tone[:] = tone[0]
    image, width = scene.image, c.uniform(0.012, 0.06)
    for _ in range(int(c.rng.integers(1, 5))):
        centre = (centre[0] + c.uniform(-0.15, 0.15), centre[1] + c.uniform(-0.15, 0.15))
        line = c.stroke(centre, c.uniform(0.2, 1.0), width, c.uniform(0, 0.25), c.uniform(0, 0.03))
        image = mix(image, tone, line * scene.inside * np.float32(_opacity(strength, 0.3)))
    return image


def moved_part(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
    """Cut out a part, move it a little and fill its old place from the surroundings."""
    region = _region(c, scene, 0.1, 0.3)
    angle, distance = c.uniform(0, 2 * np.pi), (0.04 + 0.14 * strength) * c.size
    shift = (round(distance * np.sin(angle)), round(distance * np.cos(angle)))
    emptied = mix(scene.image, scene.behind, region)
    return mix(emptied, np.roll(scene.image, shift, (0, 1)), np.roll(region, shift, (0, 1)))


def twisted(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
    """Rotate, pinch or expand a round region about its centre."""
    centre, radius = _centre(c, scene), c.uniform(0.15, 0.4)
    du, dv = c.x - np.float32(centre[0]), c.y - np.float32(centre[1])
    distance = np.hypot(du, dv) / np.float32(radius)
    share = np.clip(1 - distance, 0, 1) ** 2 * np.float32(3)
    angle = share * np.float32((0.3 + 0.9 * strength) * (1 if c.chance(0.5) else -1)) * np.float32(c.chance(0.6))
    zoom = 1 - np.clip(share, 0, 1) * np.float32(c.uniform(-0.6, 0.6) * (0.5 + 0.5 * strength))
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    x, y = cos * du - sin * dv + np.float32(centre[0]), sin * du + cos * dv + np.float32(centre[1])
    return _sampled(c, scene.image, x, y)


def hazy(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
    """Blur a region, or cover it with a film."""
    region = _region(c, scene, 0.12, 0.45, soft=True)
    blurred = gaussian_filter(scene.image, (2.5, 2.5, 0))
    film = blurred + (c.rng.uniform(0, 1, 3).astype(np.float32) - blurred) * np.float32(c.uniform(0.0, 0.6))
    return mix(scene.image, film, region * _opacity(strength, 0.5))


def transplanted_detail(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
    """Replace a region's fine structure by another image's, keeping the coarse one, as gradient blending does (NSA)."""
    region = _region(c, scene, 0.1, 0.35, soft=c.chance(0.5))
    width = (c.uniform(4, 10),) * 2 + (0,)
    detail = donor - gaussian_filter(donor, width)
    return mix(scene.image, gaussian_filter(scene.image, width) + detail * (0.6 + strength), region)


def shuffled(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
    """Shuffle the squares of a region."""
    cell = int(c.rng.integers(4, 12))
    rows, columns = np.indices((c.size, c.size)) // cell
    step = c.rng.integers(-2, 3, (c.size // cell + 1, c.size // cell + 1, 2)) * cell
    source = np.indices((c.size, c.size)) + step[rows, columns].transpose(2, 0, 1)
    other = scene.image[source[0].clip(0, c.size - 1), source[1].clip(0, c.size - 1)]
    return mix(scene.image, other, _region(c, scene, 0.12, 0.35) * _opacity(strength, 0.6))


def _sampled(c: Canvas, image: Array, x: Array, y: Array) -> NDArray[np.float32]:
    """Return the image sampled at coordinates (x, y), each (S, S), -1..1."""
    source = ((y + 1) * np.float32(c.size / 2) - np.float32(0.5), (x + 1) * np.float32(c.size / 2) - np.float32(0.5))
    return np.stack([map_coordinates(image[..., k], source, order=1, mode="nearest") for k in range(3)], axis=2)


def _drawn(defect: str) -> Maker:
    """Return a defect of the generator as a maker."""

    def maker(c: Canvas, scene: Scene, donor: Array, strength: float) -> Array:
        return DEFECTS[defect](c, scene, strength)

    return maker


NEEDS_PARTS = ("misplacement",)
NEEDS_OUTLINE = ("missing_part",)

NEW_MAKERS: dict[str, Maker] = {
    "swapped_texture": swapped_texture,
    "feathered_patch": feathered_patch,
    "cut_paste": cut_paste,
    "foreign_object": foreign_object,
    "lost_structure": lost_structure,
    "rough_region": rough_region,
    "tinted": tinted,
    "lines": lines,
    "moved_part": moved_part,
    "twisted": twisted,
    "hazy": hazy,
    "transplanted_detail": transplanted_detail,
    "shuffled": shuffled,
}
MAKERS: dict[str, Maker] = {
    **NEW_MAKERS,
    **{defect: _drawn(defect) for defect in DEFECTS if defect not in NEEDS_PARTS},
}
# Not used in training: these make the held-out composites of the validation.
HELD_OUT_MAKERS = (*HELD_OUT_DEFECTS, "transplanted_detail", "shuffled", "hazy")
TRAINING_MAKERS = tuple(maker for maker in MAKERS if maker not in HELD_OUT_MAKERS)


def makers_for(scene: Scene, makers: tuple[str, ...]) -> list[str]:
    """Return the makers that suit a scene: a piece can break off only where there is an outline."""
    outline = bool(scene.inside.min() < 0.05)
    return [maker for maker in makers if outline or maker not in NEEDS_OUTLINE]
