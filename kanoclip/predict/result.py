"""The result of a detector for one image."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kanoclip.predict.decisions import Threshold
from kanoclip.predict.regions import Region, regions_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Result:
    """The score, the map and the decision of one image.

    Attributes:
        score: in 0..1, higher is more anomalous; comparable between images, not a probability.
        square: (S, S) float32, the smoothed map of the square that the model saw; (H, W) for an image cut into tiles.
        image: the image, RGB.
        threshold: used for the decision, the mask and the regions.
        name: name of the image; "" if it has none.
    """

    score: float
    square: NDArray[np.float32] = field(repr=False)
    image: Image.Image = field(repr=False)
    threshold: Threshold
    name: str = ""

    @cached_property
    def map(self) -> NDArray[np.float32]:
        """(H, W) float32 in 0..1: the map, resized bilinearly to the image."""
        if self.square.shape == (self.image.height, self.image.width):
            return self.square
        return np.asarray(Image.fromarray(self.square).resize(self.image.size, Image.Resampling.BILINEAR))

    @property
    def is_anomalous(self) -> bool | None:
        """Whether the score reaches the threshold; None without a threshold."""
        return None if self.threshold.image is None else self.score >= self.threshold.image

    @cached_property
    def regions(self) -> list[Region]:
        """The regions whose map reaches the threshold, the highest first; none without a threshold."""
        return regions_of(self.map, self.threshold.pixel)

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """(H, W) bool, True where the map reaches the threshold; None without a threshold."""
        return None if self.threshold.pixel is None else self.map >= self.threshold.pixel

    def plot(self) -> "Figure":
        """Return a figure of the image with the boxes of its regions, and of the heat map over it."""
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        figure = Figure(figsize=(8, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.imshow(self.image)
        for region in self.regions:
            corner = region.x - 0.5, region.y - 0.5
            left.add_patch(Rectangle(corner, region.width, region.height, fill=False, edgecolor="red"))
        verdict = {None: "", True: ": anomalous", False: ": normal"}[self.is_anomalous]
        left.set_title(f"score {self.score:.3f}{verdict}")
        right.imshow(self.image)
        shown = right.imshow(self.map, cmap="inferno", alpha=0.6)
        right.set_title("map")
        figure.colorbar(shown, ax=right)
        for panel in (left, right):
            panel.set_axis_off()
        return figure
