"""Local contrast: how much each pixel differs from its blurred surroundings. No model, no text, no training.

A trivial baseline, which is hard to beat on some industrial datasets; a useful method must beat it.
"""

import torch
from pydantic import Field
from torch import Tensor

from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.config import Strict
from kanoclip.maps import smooth
from kanoclip.methods.base import AnomalyOutput, Batch, Method, register


class LocalContrastOptions(Strict):
    """Options of local contrast."""

    size: int = Field(
        128, gt=0, description="pixels per side to which the image is resized; small, so that noise is averaged"
    )
    surroundings: float = Field(
        8.0,
        gt=0,
        description="sigma of the blur that a pixel is compared with, in pixels of that size: larger than a "
        "scratch, smaller than an object",
    )
    smoothing: float = Field(
        2.0, ge=0, description="sigma, in those pixels, of the blur of the differences, which reduces noise"
    )


@register("local_contrast")
class LocalContrast(Method[LocalContrastOptions]):
    """The absolute difference of a pixel and its blurred surroundings, averaged over the colours."""

    control = True

    @classmethod
    def reads(cls, options: LocalContrastOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the image itself."""
        return frozenset({Tap("pixels", options.size)})

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Blur and subtract; the image score is the maximum of the map."""
        image = batch.features[Tap("pixels", self.options.size)]  # (B, 3, s, s)
        difference = (image - self._blurred(image)).abs().mean(1)  # (B, s, s)
        maps = smooth(difference, self.options.smoothing)
        return AnomalyOutput(maps, image_score=maps.amax((1, 2)))

    def _blurred(self, image: Tensor) -> Tensor:
        """Blur (B, 3, s, s), each colour separately."""
        return torch.stack([smooth(colour, self.options.surroundings) for colour in image.unbind(1)], dim=1)
