"""Test the control `random`: its noise depends on the seed and the image, not on the batch or the folder."""

import torch

from kanoclip.config import Strict
from kanoclip.methods.base import Batch, method_class


def noise(backbone, images, seed=1):
    return method_class("random")(backbone, Strict(), seed)(Batch(images, ["part"] * len(images), {}))


def test_noise_does_not_depend_on_the_batch_or_the_folder_of_the_dataset(backbone):
    names = ["bottle/test/good/000.png", "bottle/test/broken/000.png"]
    here, elsewhere = noise(backbone, names), noise(backbone, ["/data/mvtec/" + name for name in reversed(names)])
    assert torch.equal(here.map, elsewhere.map.flip(0))
    assert torch.equal(here.image_score, elsewhere.image_score.flip(0))
    assert not torch.equal(here.map[0], here.map[1])
    assert not torch.equal(here.map, noise(backbone, names, seed=2).map)
