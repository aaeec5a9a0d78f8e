"""Guess thresholds for the training-free methods on the shipped backbone, from drawn images.

    python -m kanoclip.predict.guessing results/quickstart/data/synthetic_auxiliary/index.csv

writes embedded/thresholds.json beside this file; `make detector` does it. The methods are not trained on these images,
but the backbone was trained on images drawn in the same way.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.config import BackboneConfig
from kanoclip.datasets.index import read_index
from kanoclip.features import LiveFeatures
from kanoclip.files import write_json
from kanoclip.methods import method_class, method_names
from kanoclip.predict.guesses import SHIPPED, identity
from kanoclip.scoring import score
from kanoclip.thresholds import Tally

AUXILIARY = "synthetic_auxiliary"


def write_guesses(index: Path, out: Path = SHIPPED) -> None:
    """Score a dataset with every training-free method except the controls, and write their best thresholds.

    Args:
        index: index of the dataset.
        out: the JSON file.
    """
    backbone = load_backbone(BackboneConfig(model="kanoclip-tiny", weights="embedded", image_size=128), "cpu")
    kinds = {name: method_class(name) for name in method_names()}
    names = [name for name, kind in kinds.items() if not kind.trainable and not kind.control]
    write_json(out, {"backbone": identity(backbone), "methods": guesses(read_index(index), backbone, names)})


def guesses(frame: pd.DataFrame, backbone: Backbone, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the best thresholds of training-free methods by name, as `guess_of` returns them."""
    source = LiveFeatures(frame, backbone)
    found = {}
    for name in names:
        kind = method_class(name)
        method = kind(backbone, kind.Options(), 0)
        tally = Tally(backbone.config.image_size)
        tally.add(frame, *score(method, source, frame), method.sigma)
        found[name] = {**tally.thresholds(), "auxiliary": AUXILIARY, "folds": 0}
    return found


if __name__ == "__main__":
    write_guesses(Path(sys.argv[1]))
