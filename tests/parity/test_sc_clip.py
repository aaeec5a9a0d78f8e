"""SC-CLIP from pixels and text, by the formulas of docs/methods/sc_clip.md, with outliers from scikit-learn."""

import numpy as np
import pytest
import torch
from formulas import Array
from scipy.special import softmax
from sklearn.neighbors import LocalOutlierFactor

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.methods.base import Batch
from kanoclip.methods.sc_clip import ScClip, ScClipOptions

GRID, LAST, GUIDE, LEVELS = 4, 6, 4, (2, 3, 4)  # two thirds of six blocks; the middle half


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def mended(patches: Array) -> Array:
    """Replace outliers by the mean of their normal neighbours."""
    outlier = LocalOutlierFactor(n_neighbors=15, contamination=0.05).fit_predict(patches) == -1
    assert outlier.any()
    result = patches.copy()
    for patch in np.flatnonzero(outlier):
        y, x = divmod(patch, GRID)
        around = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
        inside = [r * GRID + c for r, c in around if 0 <= r < GRID and 0 <= c < GRID]
        result[patch] = patches[[other for other in inside if not outlier[other]]].mean(0)
    return result


def last_attention(slow, x: Array, weights: Array) -> Array:
    """Return (P, W) with attention weights that are half key-key attention and half similarity."""
    name = f"visual.transformer.resblocks.{LAST - 1}"
    y = slow.layer_norm(f"{name}.ln_1", x) @ slow.p[f"{name}.attn.in_proj_weight"].T
    _, k, v = np.split(y + slow.p[f"{name}.attn.in_proj_bias"], 3, axis=1)
    heads = []
    for key, value in zip(np.split(k, slow.vision_heads, axis=1), np.split(v, slow.vision_heads, axis=1), strict=True):
        same = softmax(key @ key.T / np.sqrt(key.shape[1]), axis=1) @ value
        heads.append(same[1:] / 2 + weights @ value[1:] / 2)
    return slow.linear(f"{name}.attn.out_proj", np.concatenate(heads, axis=1))


def tokens(slow, image: Array) -> Array:
    """Return the tokens (1 + P, W)."""
    x = slow.blocks(slow.embed(image))
    guide = unit(x[GUIDE][1:])
    s = guide @ guide.T
    kept = np.where(s >= 0.4, s, 0)
    deep = kept / kept.sum(1, keepdims=True) @ mended(x[LAST - 1][1:])
    logits = np.where(s >= s.mean(), 3 * (s - s.mean()), -np.inf)
    weights = softmax(logits, axis=1)
    first = last_attention(slow, np.vstack([x[LAST - 1][:1], deep]), weights)
    second = last_attention(slow, sum(x[level] for level in LEVELS), weights)
    return np.vstack([x[LAST][:1], first + second + 0.3 * x[LAST - 1][0]])


def test_forward_equals_the_formulas(
    backbone: Backbone, slow, images: torch.Tensor, batch: Batch, april_gan_templates: list[str]
) -> None:
    with torch.no_grad():
        found = ScClip(backbone, ScClipOptions(), seed=0)(batch)
    for number, name in enumerate(batch.class_names):
        expected = tokens(slow, images[number].double().numpy())
        tap = batch.features[Tap("calibrated", GUIDE)][number]
        np.testing.assert_allclose(tap, expected, atol=1e-4, rtol=1e-4)
        normal, abnormal = (
            slow.mean_text([text.format(f"{word} {name}") for text in april_gan_templates])
            for word in ("normal", "anomalous")
        )
        scores = np.array([slow.probability(slow.project(t), normal, abnormal, 0.025) for t in expected])
        assert scores.std() > 1e-3
        np.testing.assert_allclose(found.image_score[number], scores[0], atol=1e-5)
        np.testing.assert_allclose(found.map[number].flatten(), scores[1:], atol=1e-5)


@pytest.mark.parametrize("block", [1, LAST])
def test_any_block_can_provide_the_similarity(backbone: Backbone, images: torch.Tensor, block: int) -> None:
    shape = backbone.feature_shapes([Tap("calibrated", block)])
    assert shape == {Tap("calibrated", block): (1 + GRID**2, backbone.width)}
