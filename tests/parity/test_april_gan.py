"""APRIL-GAN from pixels and text, by the formulas of docs/methods/april_gan.md."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kanoclip.backbones.clip import Backbone
from kanoclip.methods.april_gan import AprilGan, AprilGanOptions
from kanoclip.methods.base import Batch

ABNORMAL = "damaged {}", "broken {}", "{} with flaw", "{} with defect", "{} with damage"
GRID, SIZE = 4, 32


def build(backbone: Backbone, **options: str) -> AprilGan:
    torch.manual_seed(0)
    return AprilGan(backbone, AprilGanOptions(**options), seed=0).eval()


@pytest.fixture(scope="module")
def texts(
    slow, batch: Batch, april_gan_templates: list[str], normal_states: list[str]
) -> list[list[NDArray[np.float64]]]:
    """Of each image: normal, abnormal."""
    return [
        [
            slow.mean_text(
                [template.format(state.format(name)) for template in april_gan_templates for state in states]
            )
            for states in (normal_states, ABNORMAL)
        ]
        for name in batch.class_names
    ]


@pytest.fixture(scope="module")
def logits(backbone: Backbone, slow, images: torch.Tensor, texts) -> NDArray[np.float64]:
    """(2, 4, 2, h, w): of each image and tap, both polarities at every patch."""
    method = build(backbone)
    result = np.zeros((2, 4, 2, GRID, GRID))
    for number in range(2):
        after = slow.blocks(slow.embed(images[number].double().numpy()))
        for k, tap in enumerate((2, 3, 4, 6)):  # the quarters of six blocks, 1.5 rounded to 2 and 4.5 to 4
            layer = method.projections[str(tap)]
            weight, bias = (parameter.detach().double().numpy() for parameter in (layer.weight, layer.bias))
            for patch, token in enumerate(after[tap][1:]):
                projected = weight @ token + bias
                projected = projected / np.linalg.norm(projected)
                for polarity in range(2):
                    result[number, k, polarity, patch // GRID, patch % GRID] = 100 * projected @ texts[number][polarity]
    return result


def softmax(of: NDArray[np.float64]) -> NDArray[np.float64]:
    """The abnormal one of (..., 2, h, w)."""
    return np.exp(of[..., 1, :, :]) / np.exp(of).sum(-3)


def at_pixels(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., h, w) to (..., S, S): corners of the grid on corners of the image, linear in between."""
    result = np.zeros((*logits.shape[:-2], SIZE, SIZE))
    for y in range(SIZE):
        for x in range(SIZE):
            v, u = y * (GRID - 1) / (SIZE - 1), x * (GRID - 1) / (SIZE - 1)
            top, left = min(int(v), GRID - 2), min(int(u), GRID - 2)
            for row, high in ((top, 1 - (v - top)), (top + 1, v - top)):
                for column, wide in ((left, 1 - (u - left)), (left + 1, u - left)):
                    result[..., y, x] += high * wide * logits[..., row, column]
    return result


def test_forward(backbone: Backbone, slow, images: torch.Tensor, batch: Batch, texts, logits) -> None:
    with torch.no_grad():
        at_grid, at_image = (build(backbone, map_resolution=where)(batch) for where in ("grid", "image"))
    assert softmax(logits).std() > 1e-3  # so that the comparison says something
    np.testing.assert_allclose(at_grid.map_probability, softmax(logits).mean(1), atol=1e-5)
    np.testing.assert_allclose(at_image.map_probability, softmax(at_pixels(logits)).mean(1), atol=1e-5)
    for number in range(2):
        after = slow.blocks(slow.embed(images[number].double().numpy()))[slow.vision_layers]
        expected = slow.probability(slow.project(after[0]), *texts[number], 0.01)
        for found in (at_grid, at_image):
            np.testing.assert_allclose(found.image_score[number], expected, atol=1e-5)


def test_losses(backbone: Backbone, batch: Batch, logits) -> None:
    """As the published code: one-hot labels clamped to 1e-5 .. 1 - 1e-5, and 1e-5 added inside the logarithm."""
    found = build(backbone).losses(batch)
    maps = softmax(at_pixels(logits))  # (2, 4, S, S)
    masks = batch.masks.numpy()
    focal, dice = 0.0, 0.0
    for k in range(4):
        losses = []
        for number in range(2):
            p, mask = maps[number, k], masks[number]
            true, other = np.where(mask, p, 1 - p), np.where(mask, 1 - p, p)
            pt = (1 - 1e-5) * true + 1e-5 * other + 1e-5
            losses.append(-((1 - pt) ** 2) * np.log(pt))
            dice += (1 - (2 * p[mask].sum() + 1) / (p.sum() + mask.sum() + 1)) / 2
        focal += np.mean(losses)
    np.testing.assert_allclose(found["focal"].item(), focal, atol=1e-5)
    np.testing.assert_allclose(found["dice"].item(), dice, atol=1e-5)
