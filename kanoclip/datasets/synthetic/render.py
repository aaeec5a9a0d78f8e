"""One synthetic image with its exact mask, from a kind, a defect and a seed."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_fill_holes

from kanoclip.datasets.synthetic.camera import Camera
from kanoclip.datasets.synthetic.canvas import Canvas, Scene
from kanoclip.datasets.synthetic.kinds import DEFECTS, kind_named
from kanoclip.types import InputError, unknown_name

VISIBLE = 14  # of 255: the smallest visible change of a colour channel (lowered if repeated attempts stay below)
SMALLEST, LARGEST = 0.0015, 0.4  # shares of the image that a mask may cover
ATTEMPTS = 80

PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
EXTENTS = ("small", "medium", "large")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts of an image, in words.

    Attributes:
        kind: a key of KINDS.
        defect: a key of DEFECTS, or "good".
        colour: the main colour of the object or texture.
        place: where the defect is, one of PLACES; empty for a normal image.
        extent: how much of the image it covers, one of EXTENTS; empty for a normal image.
    """

    kind: str
    defect: str
    colour: str
    place: str = ""
    extent: str = ""


@dataclass(frozen=True, kw_only=True)
class Sample(Facts):
    """A synthetic image.

    Attributes:
        image: (S, S, 3), 0..255.
        mask: (S, S), True where the defect changed the image visibly; empty for a normal image.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def render(kind: str, defect: str | None, seed: int, size: int = 128) -> Sample:
    """Draw one image; the same arguments give the same bytes.

    The normal image of a kind and a seed does not depend on the defect: outside the mask both are byte-identical.

    Args:
        kind: a key of KINDS.
        defect: one of `defects_of(kind)`, or None for a normal image.
        seed: 0 or more.
        size: pixels per side, at least 32.

    Raises:
        InputError: the kind or defect is unknown, or the defect does not occur on the kind.
    """
    _check(kind, defect, size)
    scene = kind_named(kind).draw(Canvas(_generator(seed, kind), size))
    camera = Camera(Canvas(_generator(seed, kind, "camera"), size), scene)
    normal = camera.take(scene.image)
    if defect is None:
        return Sample(
            image=normal, mask=np.zeros((size, size), np.bool_), kind=kind, defect="good", colour=scene.colour
        )
    image, mask = _spoil(scene, camera, normal, defect, Canvas(_generator(seed, kind, defect), size))
    rows, columns = np.nonzero(mask)
    return Sample(
        image=image,
        mask=mask,
        kind=kind,
        defect=defect,
        colour=scene.colour,
        place=place_name(rows.mean() / size, columns.mean() / size),
        extent=extent_name(float(mask.mean())),
    )


def _check(kind: str, defect: str | None, size: int) -> None:
    possible = kind_named(kind).defects
    if defect is not None and defect not in DEFECTS:
        raise unknown_name("synthetic defect", defect, DEFECTS)
    if defect is not None and defect not in possible:
        raise InputError(f"kind '{kind}' has no defect '{defect}'; it has {', '.join(possible)}")
    if size < 32:
        raise InputError(f"synthetic images need a size of at least 32 pixels; got {size}")


def _generator(seed: int, *names: str) -> np.random.Generator:
    """Return a generator seeded by a number and names, with the same output on every platform."""
    keys = [zlib.crc32(name.encode()) for name in names]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *keys])))


def _spoil(
    scene: Scene, camera: Camera, normal: NDArray[np.uint8], defect: str, c: Canvas
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Add a defect to a scene, stronger at each attempt until it is visible; return image and mask."""
    for attempt in range(ATTEMPTS):
        strength = min(c.rng.random() + attempt / 8, 1.0)
        spoilt = camera.take(DEFECTS[defect](c, scene, strength))
        difference = np.abs(spoilt.astype(np.int16) - normal).max(axis=2)
        mask = region(difference >= max(VISIBLE - attempt // 4, 2))
        if SMALLEST <= mask.mean() <= LARGEST:
            return np.where(mask[..., None], spoilt, normal), mask
    raise RuntimeError(f"'{defect}' stayed invisible in {ATTEMPTS} attempts")


def region(visible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the region of a defect: its visible pixels, with gaps closed and holes filled."""
    padded = np.pad(visible, 3)
    return binary_fill_holes(binary_closing(padded, np.ones((5, 5))))[3:-3, 3:-3]


def place_name(row: float, column: float) -> str:
    """Return a name for a position given as shares of the image."""
    return PLACES[3 * min(int(row * 3), 2) + min(int(column * 3), 2)]


def extent_name(share: float) -> str:
    """Return a name for the share of the image that a mask covers."""
    return EXTENTS[0] if share < 0.01 else EXTENTS[1] if share < 0.05 else EXTENTS[2]
