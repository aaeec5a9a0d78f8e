import pytest
import torch
import torch.nn.functional as F

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.backbones.windows import window_patches
from kanoclip.types import InputError


def test_windows_equal_a_list_by_hand() -> None:
    assert window_patches((2, 3), 2).tolist() == [[0, 1, 3, 4], [1, 2, 4, 5]]


def test_a_window_larger_than_the_image_is_refused() -> None:
    with pytest.raises(InputError, match="windows of 4 x 4 patches do not fit in an image of 3 x 5 patches"):
        window_patches((3, 5), 4)


def test_embeddings_equal_plain_loops(backbone: Backbone) -> None:
    """Run open_clip's blocks on one image and one window at a time."""
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))  # 4 x 4 patches
    found = backbone.encode_images(pixels, [Tap("windows", 2), Tap("windows", 3)])
    visual = backbone.clip.visual
    for side in (2, 3):
        places = [(top, left) for top in range(5 - side) for left in range(5 - side)]
        assert found[Tap("windows", side)].shape == (2, len(places), backbone.joint_width)
        for image in range(2):
            tokens = visual._embeds(pixels[image : image + 1])[0]
            for number, (top, left) in enumerate(places):
                chosen = [0] + [1 + 4 * (top + r) + left + c for r in range(side) for c in range(side)]
                x = tokens[chosen][None]
                for block in visual.transformer.resblocks:
                    x = block(x)
                expected = F.normalize(visual.ln_post(x[0, 0]) @ visual.proj, dim=0)
                torch.testing.assert_close(found[Tap("windows", side)][image, number], expected, atol=1e-5, rtol=1e-4)


def test_a_window_over_the_whole_image_equals_the_image(backbone: Backbone) -> None:
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found = backbone.encode_images(pixels, [Tap("windows", 4)])[Tap("windows", 4)]
    whole = backbone.clip.encode_image(pixels, normalize=True)
    torch.testing.assert_close(found[:, 0], whole, atol=1e-5, rtol=1e-4)
