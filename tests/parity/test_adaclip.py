"""AdaCLIP from pixels and text, by the formulas of docs/methods/adaclip.md."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from formulas import Array, bilinear, dice, focal, softmax
from sklearn.cluster import KMeans

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.methods.adaclip import AdaClip, AdaClipOptions
from kanoclip.methods.base import Batch

CLASS_NAMES = ["metal nut", "leather"]
GRID, SIZE = 4, 32
TAPS = (2, 3, 4, 6)  # of six blocks; the text tower has three
TEMPLATES = [
    "a bad photo of a {}.",
    "a low resolution photo of the {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
]
ABNORMAL = ["damaged {}", "broken {}", "{} with flaw", "{} with defect", "{} with damage"]
FEW = {"fusion_patches": 9, "fusion_clusters": 3}  # of 16, so that the choice and the clusters matter


def build(backbone: Backbone, **options: Any) -> AdaClip:
    """Build the method with larger learned tokens than the initial ones, so that they change the outputs."""
    torch.manual_seed(0)
    method = AdaClip(backbone, AdaClipOptions(**options), seed=0).eval()
    with torch.no_grad():
        for tokens in (method.vision, method.language):
            tokens.static.normal_(std=0.5)
    return method


@pytest.fixture(scope="module")
def ours(backbone: Backbone, images: torch.Tensor) -> Batch:
    taps = {Tap("tokens", 0), Tap("cls", backbone.layers)}
    masks = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    masks[1, 5:20, 9:14] = True
    features = backbone.encode_images(images, taps)
    return Batch(["a.png", "b.png"], CLASS_NAMES, features, torch.tensor([0, 1]), masks)


@dataclass
class Slow:
    """The method written with loops in float64."""

    slow: Any
    method: AdaClip

    def __post_init__(self) -> None:
        self.p = {name: value.detach().double().numpy() for name, value in self.method.learned().items()}

    def tokens(self, tower: str, context: Array) -> list[Array]:
        """Return the (5, W) tokens of each block."""
        static, weight, bias = self.p[f"{tower}.static"], self.p[f"{tower}.dynamic.weight"], None
        bias = self.p[f"{tower}.dynamic.bias"]
        width = static.shape[2]
        per_token = [
            weight[n * width : (n + 1) * width] @ context + bias[n * width : (n + 1) * width] for n in range(5)
        ]
        return [np.stack([block[n] + per_token[n] for n in range(5)]) for block in static]

    def text(self, text: str, learned: list[Array]) -> Array:
        ids = self.slow.tokenize([text])[0].tolist()
        ids = ids[: ids.index(max(ids)) + 1]
        x = self.slow.p["token_embedding.weight"][ids] + self.slow.p["positional_embedding"][: len(ids)]
        for number in range(self.slow.text_layers):
            if 1 <= number < len(learned):
                x = x.copy()
                x[1:6] = learned[number]
            x = self.slow.block(f"transformer.resblocks.{number}", x, self.slow.text_heads, causal=True)
        feature = self.slow.layer_norm("ln_final", x)[-1] @ self.slow.p["text_projection"]
        return feature / np.linalg.norm(feature)

    def context(self, x: Array) -> Array:
        return self.slow.layer_norm("visual.ln_post", x) @ self.slow.p["visual.proj"]

    def image(self, pixels: Array, name: str, states: list[list[str]]) -> tuple[Array, Array, Array]:
        """Return patch logits (4, 2, h, w), patch unit vectors (4, P, C) and image logits (2,)."""
        start = self.slow.embed(pixels)
        context = self.context(self.slow.blocks(start)[6][0])
        learned = self.tokens("language", context)
        text = []
        for of_polarity in states:
            texts = [template.format(state.format(name)) for state in of_polarity for template in TEMPLATES]
            mean = np.mean([self.text(one, learned) for one in texts], axis=0)
            text.append(mean / np.linalg.norm(mean))
        x, levels = start, []
        visual = self.tokens("vision", context)
        for number in range(6):
            if number < 4:
                x = np.concatenate([x[:17], visual[number]])
            x = self.slow.block(f"visual.transformer.resblocks.{number}", x, self.slow.vision_heads)
            if number + 1 in TAPS:
                k = len(levels)
                levels.append(x[1:17] @ self.p[f"patch_layers.{k}.weight"].T + self.p[f"patch_layers.{k}.bias"])
        token = self.p["class_layer.weight"] @ self.context(x[0]) + self.p["class_layer.bias"]
        patches = np.stack([level / np.linalg.norm(level, axis=1, keepdims=True) for level in levels])
        logits = np.stack([100 * patches @ vector for vector in text], axis=1)  # (4, 2, P)
        feature = 0.2 * self.fused(patches, logits) + 0.8 * token / np.linalg.norm(token)
        feature = feature / np.linalg.norm(feature)
        return logits.reshape(4, 2, GRID, GRID), patches, np.array([100 * feature @ vector for vector in text])

    def fused(self, patches: Array, logits: Array) -> Array:
        options = self.method.options
        mean = logits.mean(0)  # (2, P)
        probability = np.exp(mean[1]) / np.exp(mean).sum(0)
        chosen = np.argsort(-probability)[: options.fusion_patches]
        stacked = np.concatenate([patches[k][chosen] for k in range(4)], axis=1)
        count = min(options.fusion_clusters, len(chosen))
        labels = KMeans(count, n_init=1, random_state=0).fit_predict(stacked.astype(np.float32))
        centres = []
        for cluster in range(count):
            members = [patches[k][chosen[i]] for k in range(4) for i in range(len(chosen)) if labels[i] == cluster]
            centres.append(np.mean(members, axis=0))
        centre = np.mean(centres, axis=0)
        return centre / np.linalg.norm(centre)


def expected(backbone: Backbone, slow: Any, images: torch.Tensor, normal: list[str], **options: Any) -> tuple:
    reference = Slow(slow, build(backbone, **options))
    found = [
        reference.image(pixels.double().numpy(), name, [normal, ABNORMAL])
        for pixels, name in zip(images, CLASS_NAMES, strict=True)
    ]
    return np.stack([logits for logits, _, _ in found]), np.stack([image for _, _, image in found])


@pytest.fixture(scope="module")
def logits(backbone: Backbone, slow, images: torch.Tensor, normal_states: list[str]) -> tuple[Array, Array]:
    """Return logits (2, 4, 2, h, w) of the patches at four taps and (2, 2) of the images."""
    return expected(backbone, slow, images, normal_states, **FEW)


def probability(image: Array) -> Array:
    return np.exp(image[:, 1]) / np.exp(image).sum(1)


def test_forward_equals_the_formulas(backbone: Backbone, ours: Batch, logits: tuple[Array, Array]) -> None:
    patches, image = logits
    assert softmax(patches).std() > 1e-3  # so that the comparison is not trivial
    with torch.no_grad():
        at_grid, at_image = (build(backbone, map_resolution=where, **FEW)(ours) for where in ("grid", "image"))
    mean = patches.mean(1)  # (2, 2, h, w)
    np.testing.assert_allclose(at_grid.map, softmax(mean), atol=1e-5)
    np.testing.assert_allclose(at_image.map, softmax(bilinear(mean, SIZE, aligned=True)), atol=1e-5)
    for found in (at_grid, at_image):
        np.testing.assert_allclose(found.image_score, probability(image), atol=1e-5)


def test_fusion_takes_all_patches_of_a_small_grid(
    backbone: Backbone, slow, images: torch.Tensor, ours: Batch, normal_states: list[str]
) -> None:
    """With the published 100 patches and 20 clusters, each of the 16 patches is a cluster of its own."""
    _, image = expected(backbone, slow, images, normal_states)
    with torch.no_grad():
        np.testing.assert_allclose(build(backbone)(ours).image_score, probability(image), atol=1e-5)


@pytest.mark.parametrize("over", ["image", "row"])
def test_losses_equal_the_formulas(backbone: Backbone, ours: Batch, logits: tuple[Array, Array], over: str) -> None:
    found = {name: loss.item() for name, loss in build(backbone, dice_over=over, **FEW).losses(ours).items()}
    patches, image = logits
    maps, masks = softmax(bilinear(patches, SIZE, aligned=True)), ours.masks.numpy()  # (2, 4, S, S)

    def regions(values: Array) -> Array:
        return values if over == "image" else values.reshape(-1, 1, SIZE)

    wanted = {
        "image": focal(probability(image), np.array([False, True])),
        "focal": sum(focal(maps[:, k], masks) for k in range(4)),
        "dice_abnormal": sum(dice(regions(maps[:, k]), regions(masks)) for k in range(4)),
        "dice_normal": sum(dice(regions(1 - maps[:, k]), regions(~masks)) for k in range(4)),
    }
    assert found == pytest.approx(wanted, abs=1e-5, rel=1e-5)
