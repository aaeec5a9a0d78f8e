import pytest
import torch
import torch.nn.functional as F

from kanoclip.backbones.clip import load_backbone
from kanoclip.backbones.stem import convolution
from kanoclip.config import BackboneConfig


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, (0, 1)), (5, 2, (1, 2)), (3, 1, (1, 1)), (1, 1, (0, 0))]
)
def test_convolutions_pad_as_tensorflow_does(kernel, stride, padding):
    """TensorFlow's "SAME": out = in / stride, and an odd pixel of padding comes last."""
    own = convolution(4, 4, kernel, stride, groups=4)
    weight = torch.randn(4, 1, kernel, kernel)
    wider = own.kernel_size[0] - kernel
    torch.nn.init.zeros_(own.weight)
    own.weight.data[:, :, wider:, wider:] = weight
    x = torch.randn(2, 4, 12, 16)
    expected = F.conv2d(F.pad(x, padding * 2), weight, own.bias, stride, groups=4)
    assert expected.shape[-2:] == (12 // stride, 16 // stride)
    torch.testing.assert_close(own(x), expected)


def test_the_stem_sees_the_same_colours_whatever_the_normalisation():
    rgb = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = []
    for normalisation in ("model", "none"):
        settings = {"model": "kanoclip-tiny", "weights": "random:0", "image_size": 32}
        backbone = load_backbone(BackboneConfig(**settings, normalisation=normalisation))
        features.append(backbone.clip.visual.conv1.features(backbone.tower.normalise(rgb)))
    torch.testing.assert_close(*features, atol=1e-5, rtol=1e-5)
