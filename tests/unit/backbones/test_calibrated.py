import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import LocalOutlierFactor

from kanoclip.backbones.attention import mix, similarity_weights
from kanoclip.backbones.calibrated import aggregate, is_outlier, without_outliers
from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.types import InputError


def patches(count: int, width: int = 8, images: int = 2) -> torch.Tensor:
    """Return Gaussian patches, except for two outliers in each image."""
    x = torch.randn(images, count, width, generator=torch.Generator().manual_seed(count))
    x[:, 0] += 9
    x[:, count // 2] -= 7
    return x


@pytest.mark.parametrize("count", [9, 16, 49, 196])
def test_outliers_equal_those_of_scikit_learn(count: int) -> None:
    x = patches(count)
    found = is_outlier(x)
    for of_image, image in zip(found, x.double().numpy(), strict=True):
        factor = LocalOutlierFactor(n_neighbors=min(30, count - 1), contamination=0.05)
        assert np.array_equal(of_image.numpy(), factor.fit_predict(image) == -1)
    assert found.any(1).all() and found.float().mean() < 0.12


def test_a_single_patch_is_not_an_outlier() -> None:
    assert not is_outlier(torch.ones(3, 1, 8)).any()


def test_an_outlier_becomes_the_mean_of_its_normal_neighbours() -> None:
    x = patches(25)
    outlier, found = is_outlier(x), without_outliers(x, (5, 5))
    assert torch.equal(found[~outlier], x[~outlier])
    for image, patch in outlier.nonzero().tolist():
        row, column = divmod(patch, 5)
        near = [
            number
            for number in range(25)
            if number != patch and abs(number // 5 - row) <= 1 and abs(number % 5 - column) <= 1
        ]
        normal = [number for number in near if not outlier[image, number]]
        torch.testing.assert_close(found[image, patch], x[image, normal].mean(0))


def test_patches_are_averaged_over_similar_ones() -> None:
    guide = F.normalize(torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    x, found = torch.randn(2, 9, 6), None
    found = aggregate(x, guide)
    for image in range(2):
        for patch in range(9):
            cosines = [float(guide[image, patch] @ guide[image, other]) for other in range(9)]
            kept = {other: cosine for other, cosine in enumerate(cosines) if cosine >= 0.4}
            assert 1 <= len(kept) < 9
            expected = sum(cosine * x[image, other] for other, cosine in kept.items()) / sum(kept.values())
            torch.testing.assert_close(found[image, patch], expected)


@pytest.mark.parametrize(("sharpness", "offset"), [(3.0, 1.0), (3.0, 1.2), (1.0, 0.5)])
def test_patches_attend_to_similar_patches(sharpness: float, offset: float) -> None:
    x = F.normalize(torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(1)) + 0.5, dim=-1)
    found = similarity_weights(x, sharpness, offset)
    for weights, image in zip(found, x.double().numpy(), strict=True):
        s = image @ image.T
        kept = (s >= offset * s.mean()) | np.eye(9, dtype=bool)
        assert not kept.all()
        expected = np.where(kept, np.exp(sharpness * s), 0)
        np.testing.assert_allclose(weights, expected / expected.sum(1, keepdims=True), atol=1e-6)


def test_identical_patches_attend_to_themselves() -> None:
    """The mean similarity is near 1, so the threshold of 1.2 times the mean exceeds every similarity."""
    x = F.normalize(torch.ones(1, 5, 3), dim=-1)
    torch.testing.assert_close(similarity_weights(x, 3.0, 1.2)[0], torch.eye(5))


def test_all_heads_share_the_weights() -> None:
    weights, v = torch.rand(2, 5, 5), torch.randn(2, 3, 5, 4)
    torch.testing.assert_close(mix(weights, v), torch.einsum("bmn,bhnd->bhmd", weights, v))


def test_the_class_token_equals_clips(backbone: Backbone) -> None:
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    found = backbone.encode_images(pixels, [Tap("calibrated", 4), Tap("tokens", 6)])
    calibrated, tokens = found[Tap("calibrated", 4)], found[Tap("tokens", 6)]
    assert calibrated.shape == tokens.shape
    torch.testing.assert_close(calibrated[:, 0], tokens[:, 0])
    assert (calibrated[:, 1:] - tokens[:, 1:]).abs().mean() > 0.01


def test_images_of_a_batch_are_independent(backbone: Backbone) -> None:
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    tap = Tap("calibrated", 4)
    together = backbone.encode_images(pixels, [tap])[tap]
    alone = torch.cat([backbone.encode_images(image[None], [tap])[tap] for image in pixels])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_a_block_that_the_tower_lacks_is_refused(backbone: Backbone) -> None:
    with pytest.raises(InputError, match="tap calibrated/7: expected one of 6 blocks"):
        backbone.encode_images(torch.zeros(1, 3, 32, 32), [Tap("calibrated", 7)])
