"""Augmentations: changes of auxiliary images and masks before the towers see them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Sample = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""An image (H, W, 3) and its mask (H, W)."""


class ImageSet(Protocol):
    """The auxiliary images that an augmentation may look at."""

    @property
    def class_names(self) -> Sequence[str]:
        """The class of each row."""

    @property
    def defects(self) -> Sequence[str]:
        """The defect of each row, "good" for normal images."""

    def load(self, row: int) -> Sample:
        """Return an image and its mask."""


Augmentation = Callable[[int, ImageSet, np.random.Generator], Sample]
"""From a row, the images and a source of randomness to what takes the row's place."""


@dataclass(frozen=True)
class Mosaic:
    """Replace an image by a 2 x 2 mosaic of images of its class, with some probability (APRIL-GAN's released code).

    Each part is drawn anew: first a defect of the class, "good" among them, then one of its images, all equally likely.
    The first part decides the size of a cell; larger parts are cut, smaller ones leave black.

    Attributes:
        probability: of a mosaic, in 0..1.
    """

    probability: float

    def __call__(self, row: int, images: ImageSet, rng: np.random.Generator) -> Sample:
        """Return the image of the row, or a mosaic."""
        if rng.random() >= self.probability:
            return images.load(row)
        same = np.flatnonzero(np.asarray(images.class_names) == images.class_names[row])
        defects = np.asarray(images.defects)[same]
        parts = [images.load(int(rng.choice(same[defects == rng.choice(np.unique(defects))]))) for _ in range(4)]
        height, width = parts[0][1].shape
        image, mask = np.zeros((2 * height, 2 * width, 3), np.uint8), np.zeros((2 * height, 2 * width), bool)
        for number, (part, truth) in enumerate(parts):
            top, left = number // 2 * height, number % 2 * width
            h, w = min(len(truth), height), min(truth.shape[1], width)
            image[top : top + h, left : left + w] = part[:h, :w]
            mask[top : top + h, left : left + w] = truth[:h, :w]
        return image, mask
