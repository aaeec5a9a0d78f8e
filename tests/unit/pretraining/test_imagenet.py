import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kanoclip.backbones.clip import load_backbone
from kanoclip.backbones.stem import Convolutions, Stem
from kanoclip.backbones.stem_shape import READ
from kanoclip.config import BackboneConfig
from kanoclip.pretraining.imagenet import fill, load_efficientnet
from kanoclip.types import InputError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@pytest.fixture(scope="module")
def network():
    return load_efficientnet()


@pytest.fixture(scope="module")
def filled(network):
    stem = Stem(nn.Conv2d(3, 16, 8, 8), MEAN, STD).eval()
    fill(stem.network, network)
    return stem


@pytest.fixture(scope="module")
def rgb():
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def expected(network, rgb):
    """Return the outputs of the blocks that are read, computed by the package."""
    seen = {}
    hooks = [
        network._blocks[block].register_forward_hook(
            lambda module, given, made, block=block: seen.update({block: made})
        )
        for block in READ
    ]
    network.extract_features((rgb * 255 - 127) / 128)
    for hook in hooks:
        hook.remove()
    return [seen[block] for block in READ]


def test_the_filled_stem_computes_what_the_package_computes(filled, rgb, expected):
    found = filled.network(rgb)
    assert [(part.shape[1], 64 // part.shape[2]) for part in found] == list(READ.values())
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, theirs, atol=2e-4, rtol=1e-4)


def test_features_of_a_patch_are_its_cells_of_stride_4_its_cell_of_stride_8_and_interpolated_ones(filled):
    rgb = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    fine, middle, coarse = filled.network(rgb)
    mean, std = (torch.tensor(three).view(3, 1, 1) for three in (MEAN, STD))
    features = filled.features((rgb - mean) / std)
    assert features.shape == (1, 4 * 24 + 40 + 112, 8, 8)
    torch.testing.assert_close(features[0, :96, 1, 2], fine[0, :, 2:4, 4:6].flatten(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(features[0, 96:136, 1, 2], middle[0, :, 1, 2], atol=1e-3, rtol=1e-3)
    wide = F.interpolate(coarse, (8, 8), mode="bilinear")
    torch.testing.assert_close(features[0, 136:], wide[0], atol=1e-3, rtol=1e-3)


def test_measured_features_have_mean_0_and_deviation_1(filled):
    pixels = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    filled.measure(pixels)
    features = (filled.features(pixels) - filled.mean[:, None, None]) / filled.deviation[:, None, None]
    deviation, mean = torch.std_mean(features, (0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-3, rtol=0)
    assert (deviation < 1.001).all() and deviation.median() > 0.98


def test_without_its_last_layer_the_stem_is_the_patch_embedding(filled):
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    nn.init.zeros_(filled.out.weight)
    nn.init.zeros_(filled.out.bias)
    assert torch.equal(filled(pixels), filled.patches(pixels))


def test_the_shipped_stem_holds_the_weights_of_the_package(network):
    shipped = load_backbone(BackboneConfig(model="kanoclip-tiny", weights="embedded", image_size=128))
    own = Convolutions()
    fill(own, network)
    for name, value in shipped.clip.visual.conv1.network.state_dict().items():
        # folded on another machine, a batch norm can differ in its last bit, and fp16 then rounds to the neighbour
        torch.testing.assert_close(value, own.state_dict()[name], rtol=2**-10, atol=2**-24, msg=name)


def test_the_error_names_a_missing_package_and_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(InputError, match=r"kanoclip\[pretraining\]"):
        load_efficientnet()
