"""The end of a pass: final scores of a class, computed from all of its images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kanoclip.methods.base import ClassScores

AfterClass = Callable[[NDArray[np.float32], NDArray[np.float32]], ClassScores | None]
"""`Method.after_class`: returns final scores for the maps (n, h, w) and scores (n,) of a class, or None."""


@dataclass(frozen=True)
class Finished:
    """The final scores of N images.

    The maps are not loaded; `rows` returns a few at a time, so that a dataset need not fit into memory.

    Attributes:
        maps: (N, h, w) as returned by the method.
        image_score: (N,) final scores.
        scale: (N,) factors of the maps.
        shift: (N,) added to the scaled maps.
    """

    maps: NDArray[np.float32]
    image_score: NDArray[np.float32]
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the final maps of some images."""
        scale, shift = (numbers[start:stop, None, None] for numbers in (self.scale, self.shift))
        return np.clip(self.maps[start:stop] * scale + shift, 0, 1) if self.changed else self.maps[start:stop]

    @property
    def changed(self) -> bool:
        """Whether any map differs from what the method returned."""
        return bool((self.scale != 1).any() or (self.shift != 0).any())


def finished(
    maps: NDArray[np.float32], scores: NDArray[np.float32], frame: pd.DataFrame, after_class: AfterClass
) -> Finished:
    """Return the final scores without changing the inputs, so that a killed process can repeat this step.

    Args:
        maps: (N, h, w).
        scores: (N,).
        frame: the index that was scored.
        after_class: `after_class` of the method.
    """
    final, scale, shift = scores.copy(), np.ones(len(scores), np.float32), np.zeros(len(scores), np.float32)
    for rows in frame.reset_index(drop=True).groupby("class_name", sort=False).indices.values():
        consecutive = rows[-1] - rows[0] + 1 == len(rows)
        place = slice(rows[0], rows[-1] + 1) if consecutive else rows  # a slice of a file is not read at once
        known = after_class(maps[place], scores[place])
        if known is not None:
            final[place], scale[place], shift[place] = known.image_score, known.scale, known.shift
    return Finished(maps, final, scale, shift)
