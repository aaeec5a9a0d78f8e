"""The detector, which returns scores, maps and decisions for images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from kanoclip.datasets.decoding import Frame
from kanoclip.datasets.safe_open import shown
from kanoclip.features import LiveFeatures
from kanoclip.maps import final_map
from kanoclip.methods import Batch, Method
from kanoclip.predict.decisions import Calibration, Threshold, calibrated, guessed
from kanoclip.predict.inputs import as_frames, square
from kanoclip.predict.result import Result
from kanoclip.result_store import fingerprint
from kanoclip.tiles import score_by_tiles
from kanoclip.types import InputError

BATCH_SIZE = 16
OVERLAP = 4  # neighbouring tiles share a quarter of a tile


Scored = tuple[float, NDArray[np.float32]]
"""The score of an image and its map: (S, S) of the square that the model saw, or (H, W) of an image cut into tiles."""


class Detector:
    """A method on its backbone, ready to predict. Build it with `kanoclip.load`.

    Attributes:
        method_name: the registered method.
        class_name: what images show; an argument of `predict` overrides it.
        threshold: used for decisions; the checkpoint's guess until `calibrate` is called.
        calibration: the result of the last call of `calibrate`; None before.
        tile: side in pixels of the tiles that larger images are cut into; None squashes every image to a square.
    """

    def __init__(
        self,
        method: Method[Any],
        method_name: str,
        class_name: str = "object",
        record: Mapping[str, Any] | None = None,
        checksum: str = "",
        tile: int | None = None,
    ):
        self.method_name, self.class_name, self.tile = method_name, class_name, tile
        self.threshold: Threshold = guessed((record or {}).get("threshold"))
        self.calibration: Calibration | None = None
        self._method, self._record, self._checksum = method.eval(), record, checksum
        self._features = LiveFeatures(pd.DataFrame({"image_path": []}), method.backbone)
        self._taps = method.reads(method.options, method.backbone.shape)
        method.backbone.check(self._taps)

    @property
    def size(self) -> int:
        """S, the side in pixels of the square that an image is squashed to."""
        return self._method.backbone.config.image_size

    @property
    def description(self) -> str:
        """The model in one line."""
        backbone = self._method.backbone.config
        trained = f", trained on {self._record['auxiliary']}" if self._record else ", training-free"
        tiles = f", by tiles of {self.tile} pixels" if self.tile else ""
        return (
            f"{self.method_name} on {backbone.model} (weights {Path(backbone.weights).name}, {self.size} pixels)"
            f"{trained}{tiles}; images of '{self.class_name}'"
        )

    def checksum(self, class_name: str | None = None) -> str:
        """Return 64 hexadecimal digits that change with all that scores depend on: model, options and class name."""
        return fingerprint(
            method=self.method_name,
            options=self._method.options.model_dump(mode="json"),
            checkpoint=self._checksum,
            backbone=self._method.backbone.provenance(),
            class_name=class_name or self.class_name,
            tile=self.tile,
        )

    @overload
    def predict(self, images: list[Any], class_name: str | None = None, batch_size: int = ...) -> list[Result]: ...
    @overload
    def predict(self, images: Any, class_name: str | None = None, batch_size: int = ...) -> Result: ...
    def predict(
        self, images: Any, class_name: str | None = None, batch_size: int = BATCH_SIZE
    ) -> Result | list[Result]:
        """Score images.

        Args:
            images: a path, a Pillow image, an array or a tensor (see `kanoclip.datasets.decoding.to_rgb`), or a list of
                these. A file with several pages or slices must be in a list, and yields a result for each.
            class_name: what they show; default: the detector's.
            batch_size: images per forward pass.

        Returns:
            One result, or a list of results for a list.

        Raises:
            InputError: an image cannot be read, or the batch size is below 1.

        >>> import numpy as np
        >>> from kanoclip.predict import load
        >>> detector = load("kanoclip")
        >>> result = detector.predict(np.zeros((40, 60, 3), np.uint8), class_name="tile")
        >>> result.map.shape, 0 <= result.score <= 1
        ((40, 60), True)
        """
        if isinstance(images, list | tuple):
            return list(self.stream(self._frames(images), class_name, batch_size))
        found = list(self.stream(self._frames([images]), class_name, batch_size))
        if len(found) != 1:
            raise InputError(
                f"{shown(_name(images, 0))}: expected one image, found {len(found)}; give it in a list: predict([...])"
            )
        return found[0]

    def calibrate(
        self,
        normals: Any,
        false_alarms: float = 0.01,
        class_name: str | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Self:
        """Choose the threshold for a false-alarm rate from images that are known to be normal.

        Args:
            normals: images, each as for `predict`; at least 1 / false_alarms - 1 of them.
            false_alarms: the target share of normal images that are called anomalous, in 0..1.
            class_name: what they show; default: the detector's. Use the same name to predict.
            batch_size: images per forward pass.

        Returns:
            The detector; its `calibration` states how reliable the threshold is.

        Raises:
            InputError: too few images for the rate, all images have the same score, or one path instead of a list.
        """
        scores, peaks = [], []
        for result in self.stream(self._frames(normals), class_name, batch_size):
            scores.append(result.score)
            peaks.append(result.square.max())
        self.calibration = calibrated(np.array(scores, np.float32), np.array(peaks, np.float32), false_alarms)
        self.threshold = self.calibration.threshold
        return self

    def scores(
        self, images: Iterable[Any], class_name: str | None = None, batch_size: int = BATCH_SIZE
    ) -> NDArray[np.float32]:
        """Return the image scores (N,) in 0..1; arguments as for `predict`.

        >>> import numpy as np
        >>> from kanoclip.predict import load
        >>> load("clip").scores([np.zeros((32, 32)), np.ones((32, 32))]).shape
        (2,)
        """
        found = [result.score for result in self.stream(self._frames(images), class_name, batch_size)]
        return np.array(found, np.float32)

    def stream(
        self, frames: Iterable[tuple[str, Frame]], class_name: str | None = None, batch_size: int = BATCH_SIZE
    ) -> Iterator[Result]:
        """Score named images as they arrive, holding one batch in memory.

        Raises:
            InputError: the batch size is below 1.
        """
        if batch_size < 1:
            raise InputError(f"batch_size: expected a number of images above 0, found {batch_size}")
        waiting = iter(frames)
        while batch := list(islice(waiting, batch_size)):
            images = [frame.image for _, frame in batch]
            for (name, _), image, scored in zip(batch, images, self.score(images, None, class_name), strict=True):
                yield self.result(name, image, scored)

    def result(self, name: str, image: Image.Image, scored: Scored) -> Result:
        """Return the result of an image from its score and map."""
        return Result(*scored, image, self.threshold, name)

    def score(
        self,
        images: Sequence[Image.Image],
        squares: Sequence[NDArray[np.uint8]] | None = None,
        class_name: str | None = None,
    ) -> list[Scored]:
        """Score images in one batch, or each of them alone: in tiles, or whole if it fits into one.

        Args:
            images: RGB.
            squares: (S, S, 3) each, from `square`, if they have been computed already.
            class_name: what they show.

        Raises:
            InputError: a score is not finite.
        """
        if self.tile is None:
            squares = [square(image, self.size) for image in images] if squares is None else squares
            return self._score_squares(np.stack(squares), class_name)

        def score_tiles(tiles: list[Image.Image]) -> tuple[list[NDArray[np.float32]], list[float]]:
            found = self._score_squares(np.stack([square(one, self.size) for one in tiles]), class_name)
            return [grid for _, grid in found], [score for score, _ in found]

        scored: list[Scored] = []
        for image in images:
            if max(image.size) <= self.tile:
                scored += self._score_squares(np.stack([square(image, self.size)]), class_name)
                continue
            grid, score = score_by_tiles(image, self.tile, self.tile // OVERLAP, score_tiles, BATCH_SIZE)
            scored.append((score, grid.astype(np.float32)))
        return scored

    @torch.no_grad()
    def _score_squares(self, squares: NDArray[np.uint8], class_name: str | None) -> list[Scored]:
        """Score squares (N, S, S, 3)."""
        names = [class_name or self.class_name] * len(squares)
        features = self._features.of_images(squares, self._taps)
        output = self._method(Batch([f"image {i}" for i in range(len(squares))], names, features))
        maps = final_map(output.map.float(), self.size, self._method.sigma).cpu().numpy()
        scores = output.image_score.float().cpu().numpy()
        if not (np.isfinite(maps).all() and np.isfinite(scores).all()):
            raise InputError(f"{self.method_name}: a score is not finite; check the weights")
        return [(float(score), grid) for score, grid in zip(scores, maps, strict=True)]

    @staticmethod
    def _frames(images: Iterable[Any] | Sequence[Any]) -> Iterator[tuple[str, Frame]]:
        """Yield the images of inputs with their names."""
        if isinstance(images, str | Path | Image.Image):
            raise InputError(
                f"images: expected a list, found a single {type(images).__name__}; give [image], or of a folder "
                "sorted(Path(folder).iterdir())"
            )
        for number, given in enumerate(images):
            for frame in as_frames(given):
                yield _name(given, number) + frame.name_suffix, frame


def _name(given: Any, number: int) -> str:
    """Return the name of an input: its path, or its number if it is not a path."""
    return str(given) if isinstance(given, str | Path) else f"image {number}"
