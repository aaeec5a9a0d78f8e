"""MVFA-AD from pixels and text, by the formulas of docs/methods/mvfa.md."""

import numpy as np
import pytest
import torch
from formulas import Array, bilinear, dice, focal, softmax

from kanoclip.backbones.clip import Backbone
from kanoclip.methods.base import Batch
from kanoclip.methods.mvfa import Mvfa, MvfaOptions

GRID, SIZE = 4, 32
TAPS = (2, 3, 4, 6)  # of six blocks


def build(backbone: Backbone, **options: str) -> Mvfa:
    torch.manual_seed(0)
    return Mvfa(backbone, MvfaOptions(**options), seed=0).eval()


def adapter(method: Mvfa, branch: str, tap: int, token: Array) -> tuple[Array, Array]:
    """Return the token that is compared with the text, and the one for the residual stream."""
    module = getattr(method, branch)[TAPS.index(tap)]
    down, up = (layer.weight.detach().double().numpy() for layer in (module.down, module.up))
    middle = leaky(down @ token)
    return middle, leaky(up @ middle)


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.01 * x)


@pytest.fixture(scope="module")
def logits(backbone: Backbone, slow, images: torch.Tensor, april_gan_texts) -> dict[str, Array]:
    """Return for each branch the logits (2, 4, 2, h, w) of each image, level, polarity and patch."""
    method = build(backbone)
    result = {branch: np.zeros((2, 4, 2, GRID, GRID)) for branch in ("segmentation", "detection")}
    for number in range(2):
        x = slow.embed(images[number].double().numpy())
        for block in range(1, 7):
            x = slow.block(f"visual.transformer.resblocks.{block - 1}", x, slow.vision_heads)
            if block not in TAPS:
                continue
            mixed = 0.8 * x
            for branch in result:
                for place, token in enumerate(x):
                    middle, back = adapter(method, branch, block, token)
                    mixed[place] += 0.1 * back
                    if place == 0:  # the class token is adapted, but not compared with the text
                        continue
                    row, column = (place - 1) // GRID, (place - 1) % GRID
                    for polarity in range(2):
                        cosine = middle @ april_gan_texts[number][polarity] / np.linalg.norm(middle)
                        result[branch][number, TAPS.index(block), polarity, row, column] = 100 * cosine
            x = mixed
    return result


def test_forward_equals_the_formulas(backbone: Backbone, batch: Batch, logits: dict[str, Array]) -> None:
    segmentation, detection = logits["segmentation"], softmax(logits["detection"])
    # so that the comparison is not trivial
    assert min(softmax(of_branch).std() for of_branch in logits.values()) > 1e-3
    with torch.no_grad():
        at_grid, at_image = (build(backbone, map_resolution=where)(batch) for where in ("grid", "image"))
    np.testing.assert_allclose(at_grid.map, softmax(segmentation).mean(1), atol=1e-5)
    np.testing.assert_allclose(at_image.map, softmax(bilinear(segmentation, SIZE, aligned=True)).mean(1), atol=1e-5)
    for found in (at_grid, at_image):
        np.testing.assert_allclose(found.image_score, detection.mean((1, 2, 3)), atol=1e-5)


def test_losses_equal_the_formulas(backbone: Backbone, batch: Batch, logits: dict[str, Array]) -> None:
    found = {name: loss.item() for name, loss in build(backbone).losses(batch).items()}
    maps = softmax(bilinear(logits["segmentation"], SIZE, aligned=True))  # (2, 4, S, S)
    scores = softmax(logits["detection"]).mean((2, 3))  # (2, 4)
    masks = batch.masks.numpy()
    entropies = [
        -np.log(1 / (1 + np.exp(score if label == 0 else -score))) for label in (0, 1) for score in scores[label]
    ]
    expected = {
        "focal": sum(focal(maps[:, k], masks) for k in range(4)),
        "dice": sum(dice(maps[:, k], masks) for k in range(4)),
        "detection": sum(entropies) / 2,  # mean over images, sum over levels
    }
    assert found == pytest.approx(expected, abs=1e-5, rel=1e-5)
