"""Features that the towers compute on demand."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Features, Tap
from kanoclip.datasets.image_loader import ImageLoader
from kanoclip.features.source import Rows, as_cached, as_read


class LiveFeatures:
    """Features of the images of an index, computed by the towers of a backbone.

    Args:
        frame: the index, of which `image_path` is used.
        backbone: on its device.
        workers: threads that load images.
    """

    def __init__(self, frame: pd.DataFrame, backbone: Backbone, workers: int = 1):
        self.backbone, self.workers = backbone, workers
        self._paths = frame["image_path"].tolist()

    def require(self, taps: Collection[Tap], wanted_by: str) -> None:
        """Refuse taps that no tower has."""
        self.backbone.check(taps)

    def stream(self, batches: Sequence[Rows], taps: Collection[Tap]) -> Iterator[Features]:
        """Load images in threads while the towers compute; see `FeatureSource.stream`."""
        if not taps:
            yield from ({} for _ in batches)
            return
        paths = [[self._paths[row] for row in rows] for rows in batches]
        with ImageLoader(self.backbone.config.image_size, self.workers) as loader:
            for images in loader.stream(paths):
                yield self.of_images(images, taps)

    def of_images(self, images: NDArray[np.uint8], taps: Collection[Tap]) -> Features:
        """Return the features of images (B, S, S, 3), rounded to fp16 as in a cache."""
        features = self.backbone.encode_images(self.backbone.normalise(images), taps)
        return as_read(as_cached(features), self.backbone.device)
