import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.methods.base import Batch
from kanoclip.methods.local_contrast import LocalContrast, LocalContrastOptions


def output_of(image: np.ndarray, backbone: Backbone, **options: float):
    settings = LocalContrastOptions(size=image.shape[-1], **options)
    features = {Tap("pixels", image.shape[-1]): torch.from_numpy(image)[None].float()}
    return LocalContrast(backbone, settings, 0)(Batch(["a"], ["nut"], features))


def test_it_equals_scipys_gaussians(backbone: Backbone) -> None:
    image = np.random.default_rng(0).random((3, 40, 40))
    found = output_of(image, backbone, surroundings=4.0, smoothing=1.5)
    blurred = np.stack([gaussian_filter(colour, 4.0) for colour in image])
    expected = gaussian_filter(np.abs(image - blurred).mean(0), 1.5)
    np.testing.assert_allclose(found.map[0].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(found.image_score[0].item(), expected.max(), atol=1e-5)


def test_a_spot_has_a_high_score_and_a_uniform_image_none(backbone: Backbone) -> None:
    even = np.full((3, 64, 64), 0.5)
    spot = even.copy()
    spot[:, 20:24, 40:44] = 0.9
    assert output_of(even, backbone).image_score.item() < 1e-5
    peak = output_of(spot, backbone).map[0].flatten().argmax().item()
    assert abs(peak // 64 - 21.5) < 2 and abs(peak % 64 - 41.5) < 2
