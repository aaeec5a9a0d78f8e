import numpy as np
import torch
import torch.nn.functional as F

from kanoclip.methods.semantic_fusion import cluster_shares, fused_feature


def test_every_cluster_has_the_same_weight() -> None:
    """Three well-separated groups of 5, 3 and 1 vectors each get a weight of 1/3, shared by their members."""
    rng = np.random.default_rng(0)
    centres = np.array([[10.0, 0, 0], [0, 10.0, 0], [0, 0, 10.0]])
    groups = np.repeat([0, 1, 2], [5, 3, 1])
    vectors = (centres[groups] + rng.normal(scale=0.01, size=(9, 3))).astype(np.float32)
    np.testing.assert_allclose(cluster_shares(vectors, 3), np.array([1 / 15, 1 / 9, 1 / 3])[groups], rtol=1e-6)


def test_equal_patches_form_one_cluster() -> None:
    np.testing.assert_allclose(cluster_shares(np.ones((6, 4), np.float32), 3), np.full(6, 1 / 6), rtol=1e-6)


def test_only_the_most_anomalous_patches_are_used() -> None:
    """With one patch, the feature is the mean over levels of that patch; other patches do not matter."""
    g = torch.Generator().manual_seed(0)
    levels = F.normalize(torch.randn(2, 4, 9, 8, generator=g), dim=-1)
    abnormal = torch.zeros(2, 9)
    abnormal[0, 7] = abnormal[1, 2] = 1
    found = fused_feature(levels, abnormal, patches=1, clusters=20)
    expected = F.normalize(torch.stack([levels[0, :, 7].mean(0), levels[1, :, 2].mean(0)]), dim=-1)
    torch.testing.assert_close(found, expected)


def test_the_feature_does_not_depend_on_the_batch_or_on_earlier_random_numbers() -> None:
    g = torch.Generator().manual_seed(1)
    levels = F.normalize(torch.randn(5, 4, 60, 8, generator=g), dim=-1)
    abnormal = torch.rand(5, 60, generator=g)
    together = fused_feature(levels, abnormal, 40, 6)
    np.random.seed(3)  # noqa: NPY002 - scikit-learn's own source of randomness
    alone = [fused_feature(levels[[row]], abnormal[[row]], 40, 6)[0] for row in reversed(range(5))]
    torch.testing.assert_close(torch.stack(alone[::-1]), together, atol=1e-6, rtol=0)


def test_only_the_chosen_patches_get_a_gradient() -> None:
    g = torch.Generator().manual_seed(2)
    levels = torch.randn(1, 2, 10, 8, generator=g).requires_grad_()
    fused_feature(levels, torch.arange(10.0)[None], 4, 2)[0, 0].backward()
    assert levels.grad is not None
    assert levels.grad.abs().sum((0, 1, 3)).ne(0).tolist() == [False] * 6 + [True] * 4
