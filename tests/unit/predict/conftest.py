from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kanoclip.backbones.clip import Backbone
from kanoclip.methods import method_class
from kanoclip.predict import Detector, Threshold


@pytest.fixture
def detector(backbone: Backbone) -> Detector:
    """Return CLIP with random weights and a threshold in the middle of its scores."""
    kind = method_class("clip")
    found = Detector(kind(backbone, kind.Options(), 0), "clip", "nut")
    found.threshold = Threshold(0.5, 0.5, "a threshold for tests")
    return found


@pytest.fixture
def write_images(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes small images of different noise and returns their folder."""

    def write(*names: str, folder: str = "images", size: tuple[int, int] = (36, 24)) -> Path:
        for number, name in enumerate(names):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(noise).save(path)
        return tmp_path / folder

    return write
