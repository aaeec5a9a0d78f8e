"""APRIL-GAN from pixels and text, by the formulas of docs/methods/april_gan.md."""

import numpy as np
import pytest
import torch
from formulas import Array, bilinear, dice, focal, softmax

from kanoclip.backbones.clip import Backbone
from kanoclip.methods.april_gan import AprilGan, AprilGanOptions
from kanoclip.methods.base import Batch

GRID, SIZE = 4, 32


def build(backbone: Backbone, **options: str) -> AprilGan:
    torch.manual_seed(0)
    return AprilGan(backbone, AprilGanOptions(**options), seed=0).eval()


@pytest.fixture(scope="module")
def logits(backbone: Backbone, slow, images: torch.Tensor, april_gan_texts) -> Array:
    """Return the logits (2, 4, 2, h, w) of each image, tap, polarity and patch."""
    method = build(backbone)
    result = np.zeros((2, 4, 2, GRID, GRID))
    for number in range(2):
        after = slow.blocks(slow.embed(images[number].double().numpy()))
        for k, tap in enumerate((2, 3, 4, 6)):  # the quarters of six blocks, 1.5 rounded to 2 and 4.5 to 4
            layer = method.projections[k]
            weight, bias = (parameter.detach().double().numpy() for parameter in (layer.weight, layer.bias))
            for patch, token in enumerate(after[tap][1:]):
                projected = weight @ token + bias
                projected = projected / np.linalg.norm(projected)
                for polarity in range(2):
                    result[number, k, polarity, patch // GRID, patch % GRID] = (
                        100 * projected @ april_gan_texts[number][polarity]
                    )
    return result


def test_forward_equals_the_formulas(
    backbone: Backbone, slow, images: torch.Tensor, batch: Batch, april_gan_texts, logits
) -> None:
    with torch.no_grad():
        at_grid, at_image = (build(backbone, map_resolution=where)(batch) for where in ("grid", "image"))
    assert softmax(logits).std() > 1e-3  # so that the comparison is not trivial
    np.testing.assert_allclose(at_grid.map, softmax(logits).mean(1), atol=1e-5)
    np.testing.assert_allclose(at_image.map, softmax(bilinear(logits, SIZE, aligned=True)).mean(1), atol=1e-5)
    for number in range(2):
        after = slow.blocks(slow.embed(images[number].double().numpy()))[slow.vision_layers]
        expected = slow.probability(slow.project(after[0]), *april_gan_texts[number], 0.01)
        for found in (at_grid, at_image):
            np.testing.assert_allclose(found.image_score[number], expected, atol=1e-5)


def test_losses_equal_the_formulas(backbone: Backbone, batch: Batch, logits) -> None:
    found = build(backbone).losses(batch)
    maps = softmax(bilinear(logits, SIZE, aligned=True))  # (2, 4, S, S)
    masks = batch.masks.numpy()
    levels = range(maps.shape[1])
    np.testing.assert_allclose(found["focal"].item(), sum(focal(maps[:, k], masks) for k in levels), atol=1e-5)
    np.testing.assert_allclose(found["dice"].item(), sum(dice(maps[:, k], masks) for k in levels), atol=1e-5)
