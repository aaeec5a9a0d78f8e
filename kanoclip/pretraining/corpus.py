"""Images that are drawn once and stored, and the views of them that training sees."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kanoclip.datasets.synthetic import DEFECTS, KINDS, Facts, defects_of, render
from kanoclip.files import write_text
from kanoclip.pretraining.codes import DEFECT, EXTENT, NOTHING, PLACE, STATE, UNKNOWN, attributes
from kanoclip.types import progress

Number = TypeVar("Number", np.uint8, np.float32)

IMAGE_SIZE = 128
LEAST_ANOMALOUS_PIXELS = 16  # a crop with 1 to 15 is labelled neither normal nor abnormal
CROPPED = (
    0.75  # share of small views that are crops; the others are whole images shrunk to half, where thin defects fade
)


@dataclass(frozen=True)
class Pair:
    """A normal image and a second one of the same scene, with a defect or with a harmless change.

    Attributes:
        images: two of (S, S, 3), 0..255.
        mask: (S, S) of the defect in the second image; empty when it has none.
        facts: facts of both images.
    """

    images: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    mask: NDArray[np.bool_]
    facts: tuple[Facts, Facts]


@dataclass(frozen=True)
class Corpus:
    """Images in pairs: an even row is normal, the next one is the same scene with a defect or a harmless change.

    Attributes:
        images: (N, 128, 128, 3), 0..255, memory-mapped.
        masks: (N, 128, 16), bits of the masks, memory-mapped.
        numbers: (N, 6) attribute numbers.
        facts: facts of every image.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    numbers: NDArray[np.int16]
    facts: list[Facts]

    def mask(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Masks (B, 128, 128) of some images."""
        return np.unpackbits(self.masks[rows], axis=2).astype(np.bool_)

    def first(self, pairs: int) -> "Corpus":
        """Return the first pairs; kinds alternate, so every kind keeps its share."""
        end = 2 * pairs
        return Corpus(self.images[:end], self.masks[:end], self.numbers[:end], self.facts[:end])


def draw_corpus(
    folder: Path, kinds: Sequence[str], defects: Sequence[str], pairs: int, seed: int, processes: int = 1
) -> Corpus:
    """Draw pairs of images into a folder, or read them if they exist.

    Args:
        folder: gets `images.npy`, `masks.npy` and, last, `facts.csv`.
        kinds: each gets an equal share of the pairs.
        defects: the only defects to draw; a kind with none of them is left out.
        pairs: number of normal images, and of anomalous ones.
        seed: first seed of the images; a pair has one seed.
        processes: number of parallel processes; the images do not depend on it.
    """
    return stored_corpus(folder, partial(drawn_pair, tuple(kinds), tuple(defects), seed), pairs, processes)


def drawn_pair(kinds: tuple[str, ...], defects: tuple[str, ...], seed: int, pair: int) -> Pair:
    """Return a scene of the generator without and with a defect; kinds and their defects alternate."""
    possible = {kind: [name for name in defects_of(kind) if name in defects] for kind in kinds}
    usable = [kind for kind in kinds if possible[kind]]
    kind = usable[pair % len(usable)]
    defect = possible[kind][(pair // len(usable)) % len(possible[kind])]
    normal, spoilt = (render(kind, name, seed + pair, IMAGE_SIZE) for name in (None, defect))
    facts = [Facts(**{field: getattr(sample, field) for field in FIELDS}) for sample in (normal, spoilt)]
    return Pair((normal.image, spoilt.image), spoilt.mask, (facts[0], facts[1]))


FIELDS = ("kind", "defect", "colour", "place", "extent")


def stored_corpus(folder: Path, make: Callable[[int], Pair], pairs: int, processes: int) -> Corpus:
    """Make pairs 0, 1, ... in a folder, or read them if they exist.

    Args:
        folder: gets `images.npy`, `masks.npy` and, last, `facts.csv`.
        make: returns the pair of a number; it must be picklable.
        pairs: their number.
        processes: number of parallel processes.
    """
    marker = folder / "facts.csv"
    if not marker.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(marker, "\n".join(_store(folder, make, pairs, processes)) + "\n")
    facts = [Facts(**dict(zip(FIELDS, line.split(","), strict=True))) for line in marker.read_text().splitlines()]
    return Corpus(
        images=np.load(folder / "images.npy", mmap_mode="c"),
        masks=np.load(folder / "masks.npy", mmap_mode="c"),
        numbers=np.stack([numbers_of(row) for row in facts]),
        facts=facts,
    )


def numbers_of(facts: Facts) -> NDArray[np.int16]:
    """Return the attribute numbers of an image; of a composite only the state and the generator's defects are known."""
    if facts.kind in KINDS:
        return attributes(facts)
    normal = facts.defect == "good"
    defects = list(DEFECTS)
    defect = NOTHING if normal else defects.index(facts.defect) if facts.defect in defects else UNKNOWN
    beside = NOTHING if normal else UNKNOWN
    return np.array([not normal, UNKNOWN, defect, UNKNOWN, beside, beside], np.int16)


def _store(folder: Path, make: Callable[[int], Pair], pairs: int, processes: int) -> list[str]:
    shape = (2 * pairs, IMAGE_SIZE, IMAGE_SIZE)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (*shape, 3))
    masks = np.lib.format.open_memmap(folder / "masks.npy", "w+", np.uint8, (*shape[:2], IMAGE_SIZE // 8))
    lines = []
    with _mapped(make, pairs, processes) as made:
        for number, pair in enumerate(progress(made, f"drawing {folder.name}", pairs)):
            for row, image, facts in zip((2 * number, 2 * number + 1), pair.images, pair.facts, strict=True):
                images[row] = image
                lines.append(",".join(getattr(facts, field) for field in FIELDS))
            masks[2 * number + 1] = np.packbits(pair.mask, axis=1)
    images.flush()
    masks.flush()
    return lines


@contextmanager
def _mapped(make: Callable[[int], Pair], pairs: int, processes: int) -> Iterator[Iterable[Pair]]:
    """Yield batches of pairs in order, made by one process or by several."""
    if processes == 1:
        yield map(make, range(pairs))
        return
    with ProcessPoolExecutor(processes) as pool:
        yield pool.map(make, range(pairs), chunksize=16)


@dataclass(frozen=True)
class Views:
    """A batch of training views.

    Attributes:
        rows: (B,) of the corpus.
        images: (B, S, S, 3), 0..255.
        masks: (B, S, S).
        numbers: (B, 6) attribute numbers of the views; the state is UNKNOWN if a crop shows a sliver of the defect.
    """

    rows: NDArray[np.intp]
    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    numbers: NDArray[np.int16]


def views(corpus: Corpus, count: int, size: int, rng: np.random.Generator) -> Views:
    """Return a random batch: whole images if `size` is the image size, else crops and some shrunk images.

    Args:
        corpus: where the images come from.
        count: B.
        size: pixels per side, IMAGE_SIZE or half of it.
        rng: chooses images, crops and rotations.
    """
    rows = np.sort(rng.choice(len(corpus.images), count, replace=False))
    images, masks, numbers = corpus.images[rows], corpus.mask(rows), corpus.numbers[rows].copy()
    if size == IMAGE_SIZE:
        return Views(rows, images, masks, numbers)
    cropped = rng.random(count) < CROPPED
    small = np.empty((count, size, size, 3), np.uint8)
    small_masks = np.empty((count, size, size), np.bool_)
    for index in range(count):
        if cropped[index]:
            top, left = corner(masks[index], size, rng)
            window = (slice(top, top + size), slice(left, left + size))
            small[index], small_masks[index] = turned(images[index][window], masks[index][window], rng)
            numbers[index] = numbers_of_crop(numbers[index], int(small_masks[index].sum()))
        else:
            blocks = images[index].reshape(size, 2, size, 2, 3).astype(np.uint16)
            small[index] = (blocks.sum((1, 3)) + 2) // 4
            small_masks[index] = masks[index].reshape(size, 2, size, 2).any((1, 3))
    return Views(rows, small, small_masks, numbers)


def corner(mask: NDArray[np.bool_], size: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return the top left corner of a crop; for two of three anomalous images it includes a pixel of the defect."""
    top, left = (int(value) for value in rng.integers(0, IMAGE_SIZE - size + 1, 2))
    if mask.any() and rng.random() < 0.67:
        pixels = np.flatnonzero(mask)
        row, column = divmod(int(pixels[rng.integers(pixels.size)]), IMAGE_SIZE)
        offset = rng.integers(8, size - 8, 2)
        top, left = (int(np.clip(value, 0, IMAGE_SIZE - size)) for value in (row - offset[0], column - offset[1]))
    return top, left


def turned(
    image: NDArray[Number], mask: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[Number], NDArray[np.bool_]]:
    """Rotate an image (S, S, ...) and its mask (S, S) by a random multiple of 90 degrees and mirror them by chance."""
    quarters = int(rng.integers(4))
    image, mask = np.rot90(image, quarters), np.rot90(mask, quarters)
    return (image[:, ::-1], mask[:, ::-1]) if rng.random() < 0.5 else (image, mask)


def numbers_of_crop(numbers: NDArray[np.int16], anomalous_pixels: int) -> NDArray[np.int16]:
    """Return the attribute numbers of a crop: the defect may lie outside, and its place and extent are unknown."""
    crop = numbers.copy()
    if numbers[STATE] == 0:
        return crop
    crop[[PLACE, EXTENT]] = UNKNOWN
    if anomalous_pixels == 0:
        crop[STATE], crop[[DEFECT, PLACE, EXTENT]] = 0, NOTHING
    elif anomalous_pixels < LEAST_ANOMALOUS_PIXELS:
        crop[[STATE, DEFECT]] = UNKNOWN
    return crop
