"""Features computed by the towers as they are asked for."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Features, Tap
from kanoclip.datasets.index import load_image
from kanoclip.features.source import Rows, as_cached, as_read

AHEAD = 2  # batches loaded before they are needed


class LiveFeatures:
    """The images of an index through the towers of a backbone.

    Args:
        frame: the index; `image_path` is read.
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
        """Load images by threads while the towers compute; see `FeatureSource.stream`."""
        if not taps:
            yield from ({} for _ in batches)
            return
        paths = [[self._paths[row] for row in rows] for rows in batches]
        for images in load_batches(paths, self.backbone.config.image_size, self.workers):
            yield self.of_images(images, taps)

    def of_images(self, images: NDArray[np.uint8], taps: Collection[Tap]) -> Features:
        """Return the features of images (B, S, S, 3), rounded as a cache rounds them."""
        features = self.backbone.encode_images(self.backbone.normalise(images), taps)
        return as_read(as_cached(features), self.backbone.device)


def load_batches(batches: Sequence[Sequence[str]], size: int, workers: int) -> Iterator[NDArray[np.uint8]]:
    """Yield (B, S, S, 3) per batch of paths, loaded by threads, some batches ahead."""

    def load(path: str) -> NDArray[np.uint8]:
        return squash(load_image(path), size)

    with ThreadPoolExecutor(workers) as pool:
        ready: deque[list[Future[NDArray[np.uint8]]]] = deque()
        try:
            for paths in batches:
                ready.append([pool.submit(load, path) for path in paths])
                if len(ready) > AHEAD:
                    yield np.stack([image.result() for image in ready.popleft()])
            while ready:
                yield np.stack([image.result() for image in ready.popleft()])
        finally:
            pool.shutdown(cancel_futures=True)


def squash(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Return (S, S, 3) RGB of an image, squashed to a square by bicubic interpolation as CLIP's own preprocessing."""
    return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
