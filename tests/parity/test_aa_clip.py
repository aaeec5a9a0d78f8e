"""AA-CLIP from pixels and text, by the formulas of docs/methods/aa_clip.md."""

import numpy as np
import pytest
import torch
from formulas import Array, bilinear, dice, focal
from scipy.special import erf
from scipy.special import softmax as softmax_of

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.methods.aa_clip import AaClip
from kanoclip.methods.aa_clip.options import AaClipOptions
from kanoclip.methods.base import Batch

GRID, SIZE, START = 4, 32, 2  # V-V attention starts at block 2
LEVELS = (2, 3, 4, 6)  # of six blocks
ADAPTED = 2  # the first quarter of six blocks
NORMAL = ["{}.", "a {}.", "the {}.", "a photo of {}.", "a photo of a {}.", "a photo of the {}."]
FLAWS = ["a damaged {}", "a broken {}", "a {} with flaw", "a {} with defect", "a {} with damage"]
ABNORMAL = [pattern.format(flaw) for flaw in FLAWS for pattern in ("{}.", "a photo of {}.")]


def build(backbone: Backbone, **options: object) -> AaClip:
    torch.manual_seed(0)
    return AaClip(backbone, AaClipOptions(**options), seed=0).eval()


@pytest.fixture(scope="module")
def learned(backbone: Backbone) -> dict[str, Array]:
    return {name: value.detach().double().numpy() for name, value in build(backbone).learned().items()}


@pytest.fixture(scope="module")
def seen(backbone: Backbone, images: torch.Tensor, batch: Batch) -> Batch:
    """Return the two images with the taps that the method reads."""
    taps = {Tap("tokens", 1), Tap("tokens", START - 1), Tap("cls", 6)}
    return Batch(batch.images, batch.class_names, backbone.encode_images(images, taps), batch.labels, batch.masks)


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.01 * x)


def adapt(x: Array, weight: Array) -> Array:
    """Add, per token, a tenth of the adapter's output, scaled to the norm of the token, to nine tenths of the token."""
    result = np.empty_like(x)
    for place, token in enumerate(x):
        output = leaky(weight @ token)
        result[place] = 0.9 * token + 0.1 * output * np.linalg.norm(token) / np.linalg.norm(output)
    return result


@pytest.fixture(scope="module")
def anchors(slow, batch: Batch, learned: dict[str, Array]) -> list[tuple[Array, Array]]:
    """Return the normal and the abnormal anchor of each image's class."""
    adapted = max(1, round(slow.text_layers / 4))

    def encode(text: str) -> Array:
        ids = slow.tokenize([text])[0].tolist()
        ids = ids[: ids.index(max(ids)) + 1]
        x = slow.p["token_embedding.weight"][ids] + slow.p["positional_embedding"][: len(ids)]
        for number in range(slow.text_layers):
            x = slow.block(f"transformer.resblocks.{number}", x, slow.text_heads, causal=True)
            if number < adapted:
                x = adapt(x, learned[f"text.adapters.layers.{number}.weight"])
        return unit(leaky(learned["text.projection.weight"] @ slow.layer_norm("ln_final", x)[-1]))

    def anchor(patterns: list[str], name: str) -> Array:
        return unit(np.mean([encode(pattern.format(name)) for pattern in patterns], axis=0))

    return [(anchor(NORMAL, name), anchor(ABNORMAL, name)) for name in batch.class_names]


@pytest.fixture(scope="module")
def adapted(slow, images: torch.Tensor, learned: dict[str, Array]) -> tuple[Array, Array]:
    """Return patches (2, 4, 16, C) at four levels, as unit vectors, and image features (2, C)."""
    patches, features = [], []
    for image in images:
        x, levels = slow.embed(image.double().numpy()), []
        for number in range(6):
            x = slow.block(f"visual.transformer.resblocks.{number}", x, slow.vision_heads)
            if number < ADAPTED:
                x = adapt(x, learned[f"image.adapters.layers.{number}.weight"])
            if number + 1 in LEVELS:
                head = learned[f"image.segmentation.{len(levels)}.weight"]
                normed = slow.layer_norm("visual.ln_post", x[1:])
                levels.append(unit(normed @ head.T))
        patches.append(levels)
        features.append(unit(normed @ learned["image.detection.weight"].T).mean(0))
    return np.array(patches), np.array(features)


def odds(patches: Array, anchors: list[tuple[Array, Array]]) -> Array:
    """Turn patches (2, K, 16, C) into (2, K, 4, 4): 100 times the difference of the cosine similarities."""
    values = [
        100 * (of_image @ (abnormal - normal)) for of_image, (normal, abnormal) in zip(patches, anchors, strict=True)
    ]
    return np.array(values).reshape(2, -1, GRID, GRID)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def blurred(maps: Array) -> Array:
    """Blur (2, 4, 4) with sigma 1 and seven weights, mirrored at the outermost patches."""
    weights = np.exp(-(np.arange(-3, 4) ** 2) / 2)
    weights /= weights.sum()
    padded = np.pad(maps, ((0, 0), (3, 3), (3, 3)), mode="reflect")
    result = np.zeros_like(maps)
    for y in range(7):
        for x in range(7):
            result += weights[y] * weights[x] * padded[:, y : y + GRID, x : x + GRID]
    return result


@pytest.fixture(scope="module")
def mean_odds(adapted: tuple[Array, Array], anchors: list[tuple[Array, Array]]) -> Array:
    return blurred(odds(adapted[0], anchors).mean(1))


@pytest.fixture(scope="module")
def detection(adapted: tuple[Array, Array], anchors: list[tuple[Array, Array]]) -> Array:
    """Return image scores (2,) in 0..1, which do not use the normal anchor."""
    return np.array([(feature @ abnormal + 1) / 2 for feature, (_, abnormal) in zip(adapted[1], anchors, strict=True)])


def test_scores_of_single_images_equal_the_formulas(
    backbone: Backbone, seen: Batch, mean_odds: Array, detection: Array
) -> None:
    assert sigmoid(mean_odds).std() > 1e-2 and np.ptp(detection) > 1e-4  # so that the comparison is not trivial
    with torch.no_grad():
        at_grid, at_image = (build(backbone, map_resolution=where)(seen) for where in ("grid", "image"))
        maximum = build(backbone, image_score="maximum")(seen).image_score
    np.testing.assert_allclose(at_grid.map, sigmoid(mean_odds), atol=1e-5)
    np.testing.assert_allclose(at_grid.image_score, (sigmoid(mean_odds).max((1, 2)) + detection) / 2, atol=1e-5)
    np.testing.assert_allclose(maximum, sigmoid(mean_odds).max((1, 2)), atol=1e-5)
    upsampled = sigmoid(bilinear(mean_odds, SIZE, aligned=True))
    np.testing.assert_allclose(at_image.map, upsampled, atol=1e-5)
    np.testing.assert_allclose(at_image.image_score, (upsampled.max((1, 2)) + detection) / 2, atol=1e-5)


def test_scores_normalised_over_a_class_equal_the_published_formula(
    backbone: Backbone, seen: Batch, mean_odds: Array, detection: Array
) -> None:
    """The released code sums (100 cos_a + 1 - 100 cos_n) / 2 over levels; min-max scaling removes the constants."""
    method = build(backbone, **AaClip.published)
    with torch.no_grad():
        output = method(seen)
    final = method.after_class(output.map.numpy(), output.image_score.numpy())
    summed = bilinear(4 * (mean_odds + 1) / 2, SIZE, aligned=True)
    expected = (summed - summed.min()) / (summed.max() - summed.min())
    scores = (detection - detection.min()) / (detection.max() - detection.min())
    np.testing.assert_allclose(final.scale * output.map.numpy() + final.shift, expected, atol=1e-4)
    np.testing.assert_allclose(final.image_score, (expected.max((1, 2)) + scores) / 2, atol=1e-4)


def expected_map_losses(of_levels: Array, masks: np.ndarray) -> dict[str, float]:
    """Return the losses of log-odds (2, K, 4, 4): upsampled, turned into probabilities, summed over levels."""
    maps = sigmoid(bilinear(of_levels, SIZE, aligned=True))
    levels = range(maps.shape[1])
    return {
        "focal": sum(focal(maps[:, k], masks) for k in levels),
        "dice_abnormal": sum(dice(maps[:, k], masks) for k in levels),
        "dice_normal": sum(dice(1 - maps[:, k], ~masks) for k in levels),
    }


def test_losses_of_the_image_phase_equal_the_formulas(
    backbone: Backbone, seen: Batch, adapted: tuple[Array, Array], anchors: list[tuple[Array, Array]]
) -> None:
    found = {name: loss.item() for name, loss in build(backbone).image_losses(seen).items()}
    cosines = np.array([feature @ np.stack(both).T for feature, both in zip(adapted[1], anchors, strict=True)])
    entropy = np.mean([-np.log(softmax_of(row)[label]) for row, label in zip(cosines, (0, 1), strict=True)])
    expected = {**expected_map_losses(odds(adapted[0], anchors), seen.masks.numpy()), "detection": entropy}
    assert found == pytest.approx(expected, abs=1e-5, rel=1e-5)


def value_block(slow, name: str, x: Array, alone: bool) -> Array:
    """Apply a block whose values are also queries and keys, or whose tokens attend only to themselves."""
    weight, bias = (np.split(slow.p[f"{name}.attn.in_proj_{part}"], 3)[2] for part in ("weight", "bias"))
    v = slow.layer_norm(f"{name}.ln_1", x) @ weight.T + bias
    width = x.shape[1] // slow.vision_heads
    heads = [v[:, head * width : (head + 1) * width] for head in range(slow.vision_heads)]
    mixed = heads if alone else [softmax_of(own @ own.T / np.sqrt(width), axis=1) @ own for own in heads]
    x = x + slow.linear(f"{name}.attn.out_proj", np.concatenate(mixed, axis=1))
    hidden = slow.linear(f"{name}.mlp.c_fc", slow.layer_norm(f"{name}.ln_2", x))
    return x + slow.linear(f"{name}.mlp.c_proj", hidden * (1 + erf(hidden / np.sqrt(2))) / 2)


@pytest.mark.parametrize("surgery", ["value_value", "value"])
def test_losses_of_the_text_phase_equal_the_formulas(
    surgery: str,
    backbone: Backbone,
    slow,
    images: torch.Tensor,
    seen: Batch,
    anchors: list[tuple[Array, Array]],
) -> None:
    found = {name: loss.item() for name, loss in build(backbone, surgery=surgery).text_losses(seen).items()}
    patches = []
    for image in images:
        x = slow.embed(image.double().numpy())
        whole = slow.blocks(x)[6][0]  # CLIP's own class token
        for number in range(6):
            name = f"visual.transformer.resblocks.{number}"
            x = (
                slow.block(name, x, slow.vision_heads)
                if number + 1 < START
                else value_block(slow, name, x, surgery == "value")
            )
        patches.append([slow.project(x[1:]) + slow.project(whole)])
    similarity = np.mean([normal @ abnormal for normal, abnormal in anchors])
    expected = {
        **expected_map_losses(odds(np.array(patches), anchors), seen.masks.numpy()),
        "orthogonality": 0.1 * similarity**2,
    }
    assert found == pytest.approx(expected, abs=1e-5, rel=1e-5)
