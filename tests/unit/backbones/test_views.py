import pytest
import torch
from torch import Tensor

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.backbones.views import VIEWS, gray, moved
from kanoclip.types import InputError


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_quarter_turns_and_shifts_by_whole_pixels_are_exact() -> None:
    """A quarter turn equals torch's, a shift by whole pixels reads the neighbours, and edges are reflected."""
    image = torch.arange(3 * 25.0).view(1, 3, 5, 5)
    turned = [moved(image, degrees=angle) for angle in (90.0, -90.0)]
    assert any(torch.allclose(turned[0], image.rot90(quarter, (2, 3)), atol=1e-4) for quarter in (1, 3))
    torch.testing.assert_close(turned[0].rot90(2, (2, 3)), turned[1], atol=1e-4, rtol=0)
    right = moved(image, shift=(0.5, 0.0))  # a quarter of the image, which is one of its four steps between pixels
    torch.testing.assert_close(right[..., :4], image[..., 1:], atol=1e-4, rtol=0)
    torch.testing.assert_close(right[..., 4], image[..., 3], atol=1e-4, rtol=0)


def test_gray_has_three_equal_channels() -> None:
    pixel = torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(gray(pixel), torch.full((1, 3, 1, 1), 0.299 + 5.87 + 11.4))


def test_the_feature_of_each_view_equals_clips(backbone: Backbone, pixels: Tensor) -> None:
    found = backbone.encode_images(pixels, [Tap("views", 22)])[Tap("views", 22)]
    assert len(VIEWS) == 22 and found.shape == (2, 22, backbone.joint_width)
    for number, view in enumerate(VIEWS):
        expected = backbone.clip.encode_image(view(pixels), normalize=True)
        torch.testing.assert_close(found[:, number], expected, atol=1e-5, rtol=1e-4)
    assert torch.pdist(found[0]).min() > 1e-4  # all views differ


def test_a_smaller_number_of_views_takes_the_first_ones(backbone: Backbone, pixels: Tensor) -> None:
    """The first view is the image itself."""
    found = {count: backbone.encode_images(pixels, [Tap("views", count)])[Tap("views", count)] for count in (1, 3)}
    torch.testing.assert_close(found[3][:, :1], found[1])
    torch.testing.assert_close(found[1][:, 0], backbone.clip.encode_image(pixels, normalize=True), atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match="tap views/23: there are 22 views"):
        backbone.encode_images(pixels, [Tap("views", 23)])
