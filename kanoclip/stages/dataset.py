"""The dataset of a stage: an index, and its cached features or a backbone that computes them."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kanoclip.backbones.clip import Backbone, load_backbone, provenance
from kanoclip.backbones.weights import weights_identity
from kanoclip.config import BackboneConfig, parse
from kanoclip.datasets.index import read_index
from kanoclip.datasets.integrity import check_unchanged
from kanoclip.features import CachedFeatures, FeatureCache, FeatureSource, LiveFeatures
from kanoclip.types import InputError


@dataclass(frozen=True)
class Dataset:
    """A dataset and the source of its features.

    Attributes:
        name: as in the tables.
        index: its index.csv.
        features: a cache of its features; None computes them live.
        backbone: the configuration of the backbone; None uses that of the cache.
        workers: threads that load images for live features.
    """

    name: str
    index: Path
    features: Path | None = None
    backbone: BackboneConfig | None = None
    workers: int = 1

    def frame(self) -> pd.DataFrame:
        """Return its index."""
        return read_index(self.index)

    def config(self, frame: pd.DataFrame) -> BackboneConfig:
        """Return the configuration of the backbone, as given or from the cache.

        Raises:
            InputError: neither a backbone nor a cache is given, or the cache does not belong to the index.
        """
        if self.backbone is not None:
            return self.backbone
        if self.features is None:
            raise InputError(f"{self.index}: give features, or a backbone that computes them")
        return parse(BackboneConfig, FeatureCache(self.features, frame).config, str(self.features))

    def provenance(self, frame: pd.DataFrame) -> dict[str, object]:
        """Return the provenance of its features, without building the backbone."""
        config = self.config(frame)
        return provenance(config, weights_identity(config))

    def open(self, device: str, frame: pd.DataFrame) -> tuple[Backbone, FeatureSource, LiveFeatures]:
        """Build the backbone and the source of features.

        Returns:
            The backbone on its device, the features (cached if there is a cache), and live features, for trainings
            that augment their images.

        Raises:
            InputError: an image or a mask has changed since the dataset was prepared.
        """
        check_unchanged(frame)
        backbone = load_backbone(self.config(frame), device)
        live = LiveFeatures(frame, backbone, self.workers)
        if self.features is None:
            return backbone, live, live
        return backbone, CachedFeatures(FeatureCache(self.features, frame), backbone), live
