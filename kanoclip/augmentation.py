"""Augmentations of auxiliary images and masks, applied before the towers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import functional

Sample = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""An image (H, W, 3) and its mask (H, W)."""


class ImageSet(Protocol):
    """The auxiliary images that an augmentation can read."""

    @property
    def class_names(self) -> Sequence[str]:
        """The class of each row."""

    @property
    def defects(self) -> Sequence[str]:
        """The defect of each row, "good" for normal images."""

    def load(self, row: int) -> Sample:
        """Return an image and its mask."""


Augmentation = Callable[[int, ImageSet, np.random.Generator], Sample]
"""Returns the replacement of a row, given the row, the images and a random number generator."""


@dataclass(frozen=True)
class Mosaic:
    """Replace an image by a 2 x 2 mosaic of images of its class, with some probability (APRIL-GAN's released code).

    Each part is drawn independently: first a defect of the class (or "good"), then one of its images, each uniformly.
    The first part sets the cell size; larger parts are cropped, smaller ones padded with black.

    Attributes:
        probability: probability of a mosaic, in 0..1.
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


Change = Callable[[Sample, np.random.Generator], Sample]
"""Returns an augmented image and mask, given a random number generator."""


@dataclass(frozen=True)
class Changes:
    """Apply several changes to an image and its mask in sequence.

    Attributes:
        changes: in order.
    """

    changes: tuple[Change, ...]

    def __call__(self, row: int, images: ImageSet, rng: np.random.Generator) -> Sample:
        """Return the image of the row and its mask, changed."""
        sample = images.load(row)
        for change in self.changes:
            sample = change(sample, rng)
        return sample


@dataclass(frozen=True)
class Geometric:
    """Rotate, translate and flip an image together with its mask, each with a probability (AA-CLIP's released code).

    Areas from outside the image are black and normal.

    Attributes:
        probability: probability of each of the four, in 0..1.
        degrees: the largest rotation either way; angles are uniform.
        shift: the largest translation along each axis, as a share of that side.
    """

    probability: float
    degrees: float = 30.0
    shift: float = 0.15

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the changed image and mask, of the same size."""
        rotates, translates, mirrors, turns = rng.random(4) < self.probability
        angle = rng.uniform(-self.degrees, self.degrees) if rotates else 0.0
        height, width = sample[1].shape
        right, down = rng.uniform(-self.shift, self.shift, 2) if translates else (0.0, 0.0)
        offset = [round(right * width), round(down * height)]

        def moved(picture: Image.Image, how: functional.InterpolationMode) -> Image.Image:
            if angle or any(offset):
                picture = functional.affine(picture, angle, offset, 1.0, [0.0], how)
            picture = functional.hflip(picture) if mirrors else picture
            return functional.vflip(picture) if turns else picture

        image = moved(Image.fromarray(sample[0]), functional.InterpolationMode.BILINEAR)
        mask = moved(Image.fromarray(sample[1].astype(np.uint8)), functional.InterpolationMode.NEAREST)
        return np.asarray(image), np.asarray(mask).astype(bool)


@dataclass(frozen=True)
class ColourJitter:
    """Change brightness, contrast and saturation of an image with some probability (AA-CLIP's released code).

    Attributes:
        probability: probability of changing all three, in 0..1.
        strength: s; each factor is uniform in 1 - s to 1 + s.
    """

    probability: float
    strength: float = 0.5

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the changed image; the mask stays."""
        if rng.random() >= self.probability:
            return sample
        brightness, contrast, saturation = rng.uniform(1 - self.strength, 1 + self.strength, 3)
        image = functional.adjust_brightness(Image.fromarray(sample[0]), brightness)
        image = functional.adjust_saturation(functional.adjust_contrast(image, contrast), saturation)
        return np.asarray(image), sample[1]
