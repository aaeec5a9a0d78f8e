"""Composites: defects rendered into real surfaces and objects, with exact masks, stored in pairs like drawn images.

Consecutive pairs (0 and 1, 2 and 3, ...) share a surface. In most pairs the second image is the first with a defect,
byte-identical outside the mask; in some it is the first with a harmless change, and its mask is empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kanoclip.datasets.synthetic import Facts
from kanoclip.datasets.synthetic.camera import Camera
from kanoclip.datasets.synthetic.canvas import Canvas, Scene
from kanoclip.datasets.synthetic.render import LARGEST, region
from kanoclip.pretraining.corpus import IMAGE_SIZE, Corpus, Pair, stored_corpus
from kanoclip.pretraining.harmless import CHANGES
from kanoclip.pretraining.makers import MAKERS, makers_for
from kanoclip.pretraining.photographs import Photograph
from kanoclip.pretraining.surfaces import CUT_OUT, crop, crop_side, scene

HARMLESS = 0.15  # share of pairs whose second image has a harmless change instead of a defect
DISTURBED = 0.5  # share of scenes with a harmless change in both images
SECOND_DEFECT = 0.15
VISIBLE = 10  # of 255: a pixel counts as changed if any colour channel changes by at least this
SMALLEST = 0.001  # smallest share of the image that a mask may cover
ATTEMPTS = 24
PAIRS_PER_SURFACE = 2  # consecutive pairs that show the same surface


@dataclass(frozen=True)
class Composites:
    """The ingredients of composites.

    Attributes:
        photographs: surfaces and donors.
        makers: keys of MAKERS.
        seed: seed of all random choices.
        size: pixels per side.
    """

    photographs: Sequence[Photograph]
    makers: tuple[str, ...]
    seed: int
    size: int = IMAGE_SIZE

    def pair(self, number: int) -> Pair:
        """Return the pair of a number, which depends on the seed and the number alone."""
        surface, _ = divmod(number, PAIRS_PER_SURFACE)
        shared = Canvas(np.random.default_rng([self.seed, surface]), self.size)
        order = np.random.default_rng([self.seed, surface // len(self.photographs), 1]).permutation
        photo = self.photographs[int(order(len(self.photographs))[surface % len(self.photographs)])]
        pixels = photo.read()
        side, cut_out = crop_side(pixels, shared), shared.chance(CUT_OUT)
        c = Canvas(np.random.default_rng([self.seed, surface, number, 2]), self.size)
        donor_pixels = self.photographs[int(c.rng.integers(len(self.photographs)))].read()
        donor = crop(donor_pixels, crop_side(donor_pixels, c), c)
        normal = scene(pixels, side, cut_out, c)
        if c.chance(DISTURBED):
            normal = _disturbed(c, normal, donor)
        camera = Camera(c, normal)
        first = camera.take(normal.image)
        group = "texture" if photo.texture else "object"
        if not c.chance(HARMLESS):
            for _ in range(ATTEMPTS):
                spoilt = self._spoilt(c, normal, donor, camera, first)
                if spoilt is not None:
                    image, mask, name = spoilt
                    return Pair(
                        (first, image),
                        mask,
                        (Facts(kind=group, defect="good", colour=""), Facts(kind=group, defect=name, colour="")),
                    )
        changed = CHANGES[str(c.rng.choice(list(CHANGES)))](c, normal.image, donor)
        good = Facts(kind=group, defect="good", colour="")
        return Pair((first, camera.take(changed)), np.zeros((self.size, self.size), np.bool_), (good, good))

    def _spoilt(
        self, c: Canvas, normal: Scene, donor: NDArray[np.floating], camera: Camera, first: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_], str] | None:
        """Return the scene with one or two defects, its mask and the maker's name; None if no change is visible."""
        name = str(c.rng.choice(makers_for(normal, self.makers)))
        strength = c.uniform(0, 1) ** 1.5
        changed = MAKERS[name](c, normal, donor, strength)
        if c.chance(SECOND_DEFECT):
            again = Scene(changed, normal.inside, normal.behind, normal.colour)
            changed = MAKERS[str(c.rng.choice(makers_for(normal, self.makers)))](c, again, donor, strength)
        seen = camera.take(changed)
        mask = region(np.abs(seen.astype(np.int16) - first).max(axis=2) >= VISIBLE)
        if not SMALLEST <= mask.mean() <= LARGEST:
            return None
        return np.where(mask[..., None], seen, first), mask, name


def _disturbed(c: Canvas, normal: Scene, donor: NDArray[np.floating]) -> Scene:
    """Return the scene with a harmless change that both images of the pair share."""
    whole = normal.inside.min() > 0.5
    names = [name for name in CHANGES if whole or name not in ("frame", "border")]
    image = CHANGES[str(c.rng.choice(names))](c, normal.image, donor)
    return Scene(image.astype(np.float32), normal.inside, normal.behind, normal.colour)


def composite_corpus(
    folder: Path, photographs: Sequence[Photograph], makers: tuple[str, ...], pairs: int, seed: int, processes: int = 1
) -> Corpus:
    """Make pairs of composites in a folder, or read them if they exist.

    Args:
        folder: gets `images.npy`, `masks.npy` and, last, `facts.csv`.
        photographs: surfaces and donors.
        makers: keys of MAKERS.
        pairs: their number; consecutive ones share a surface.
        seed: seed of all random choices.
        processes: number of parallel processes; the images do not depend on it.
    """
    return stored_corpus(folder, partial(Composites.pair, Composites(photographs, makers, seed)), pairs, processes)
