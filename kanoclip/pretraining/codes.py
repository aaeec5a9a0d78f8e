"""The factorised code: the attributes of captions and images, as numbers and as vectors."""

import numpy as np
from numpy.typing import NDArray

from kanoclip.datasets.synthetic import DEFECTS, KINDS, Facts
from kanoclip.datasets.synthetic.canvas import COLOURS
from kanoclip.datasets.synthetic.render import EXTENTS, PLACES

NOTHING = -1  # not mentioned in a caption, or absent from an image
UNKNOWN = -2  # not known for a view of an image, e.g. the place of a defect in a crop

# Every attribute with its values and its share of the code's length.
ATTRIBUTES: dict[str, tuple[tuple[str, ...], float]] = {
    "state": (("normal", "abnormal"), 1.0),
    "kind": (tuple(KINDS), 0.8),
    "defect": (tuple(DEFECTS), 0.45),
    "colour": (tuple(COLOURS), 0.3),
    "place": (PLACES, 0.25),
    "extent": (EXTENTS, 0.2),
}
STATE, KIND, DEFECT, COLOUR, PLACE, EXTENT = range(len(ATTRIBUTES))


def attributes(facts: Facts) -> NDArray[np.int16]:
    """Return facts as (6,) numbers in the order of ATTRIBUTES, NOTHING where a fact is empty."""
    normal = facts.defect == "good"
    words = ("normal" if normal else "abnormal", facts.kind, "" if normal else facts.defect)
    pairs = zip((*words, facts.colour, facts.place, facts.extent), ATTRIBUTES.values(), strict=True)
    return np.array([values.index(word) if word else NOTHING for word, (values, _) in pairs], np.int16)


def code_tables(width: int, seed: int) -> list[NDArray[np.float32]]:
    """Return a vector for every value of every attribute; vectors of different values are orthogonal.

    The vectors of the two states are opposite, so that their difference encodes only the state.

    Args:
        width: dimensions of the joint space; at least the number of values.
        seed: seed of the random rotation.

    Returns:
        For each attribute (values, width), scaled by its share.
    """
    total = sum(len(values) for values, _ in ATTRIBUTES.values())
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, total)))
    tables, start = [], 0
    for values, share in ATTRIBUTES.values():
        tables.append((basis.T[start : start + len(values)] * share).astype(np.float32))
        start += len(values)
    tables[STATE][1] = -tables[STATE][0]
    return tables


def codes(
    numbers: NDArray[np.int16], tables: list[NDArray[np.float32]], names: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return unit vectors (T, width) of attribute numbers (T, 6): the normalised sum over the attributes mentioned.

    Args:
        numbers: NOTHING where an attribute is not mentioned.
        tables: the output of `code_tables`.
        names: (T, width) vectors of class names that are not a kind's, zero where there is none.
    """
    total = np.zeros((len(numbers), tables[0].shape[1]), np.float32) if names is None else names.copy()
    for column, table in enumerate(tables):
        mentioned = numbers[:, column] >= 0
        total[mentioned] += table[numbers[mentioned, column]]
    return total / np.linalg.norm(total, axis=1, keepdims=True)


def truth(images: NDArray[np.int16], captions: NDArray[np.int16]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Compare captions with images.

    Args:
        images: (B, 6) attribute numbers of images.
        captions: (T, 6) attribute numbers of captions.

    Returns:
        (B, T) True where all that the caption mentions is true of the image, and (B, T) True where this is known.
    """
    mentioned = captions[None] >= 0
    unknown = mentioned & (images[:, None] == UNKNOWN)
    contradicted = mentioned & ~unknown & (images[:, None] != captions[None])
    false = contradicted.any(axis=2)
    return ~false & ~unknown.any(axis=2), false | ~unknown.any(axis=2)
