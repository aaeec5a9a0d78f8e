from pathlib import Path

import pytest
import torch
from kanoclip.backbones.streams import Streams

from kanoclip.backbones.clip import Backbone
from kanoclip.datasets.index import read_index
from kanoclip.features import FeatureCache
from kanoclip.methods import AnomalyOutput, Batch
from kanoclip.methods.controls import Oracle, Random
from kanoclip.scoring import score
from kanoclip.types import InputError


def test_methods_never_see_the_truth_and_the_oracle_does(index: Path, features: Path, backbone: Backbone) -> None:
    frame = read_index(index)
    cache = FeatureCache(features, frame["image"].tolist())
    seen: list[Batch] = []

    class Spy(Random):
        def forward(self, batch: Batch) -> AnomalyOutput:
            seen.append(batch)
            return super().forward(batch)

    score(Spy(backbone, Spy.Options(), 0), cache, frame, Streams())
    assert all(batch.labels is None and batch.masks is None for batch in seen)
    oracle = score(Oracle(backbone, Oracle.Options(), 0), cache, frame, Streams(), batch_size=3)
    assert oracle["image_score"].tolist() == frame["label"].tolist()
    assert (oracle["map"].max((1, 2)) == frame["label"].to_numpy()).all()


def test_a_score_that_is_not_finite_names_its_image(index: Path, features: Path, backbone: Backbone) -> None:
    frame = read_index(index)
    cache = FeatureCache(features, frame["image"].tolist())

    class Broken(Random):
        def forward(self, batch: Batch) -> AnomalyOutput:
            output = super().forward(batch)
            rows = [image == frame["image"][5] for image in batch.images]
            output.map_probability[torch.tensor(rows)] = float("nan")
            return output

    with pytest.raises(InputError) as caught:
        score(Broken(backbone, Broken.Options(), 0), cache, frame, Streams())
    assert str(caught.value) == f"{frame['image_path'][5]}: its map is not finite"
