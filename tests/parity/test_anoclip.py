"""AnoCLIP from pixels and text, by the formulas of docs/methods/anoclip.md; its adapter with gradients by hand."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from formulas import Array, bilinear
from scipy.ndimage import map_coordinates
from scipy.special import expit, softmax

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.methods.adaptation import Draws
from kanoclip.methods.anoclip import AnoClip, AnoClipOptions
from kanoclip.methods.base import Batch

CLASS_NAMES = ["metal nut", "leather"]  # an object and a texture
NOUNS = [
    ("industrial photo", "industrial image", "manufacturing image"),
    ("industrial photo", "textural photo", "surface picture"),
]
NORMAL = ["normal {}", *(f"{word} {{}}" for word in ("flawless", "perfect", "unblemished"))]
NORMAL += [f"{{}} without {word}" for word in ("flaw", "defect", "damage")]
ABNORMAL = [f"{word} {{}}" for word in ("damaged", "abnormal", "imperfect", "blemished")]
ABNORMAL += [f"{{}} with {word}" for word in ("flaw", "defect", "damage")]
GRID, SIZE = 4, 32
ANGLES = [-np.pi / 4, -3 * np.pi / 16, -np.pi / 8, -np.pi / 16, np.pi / 16, np.pi / 8, 3 * np.pi / 16, np.pi / 4]
SHIFTS = [(0.2, 0.2), (-0.2, 0.2), (-0.2, -0.2), (0.2, -0.2), (0.1, 0.1), (-0.1, 0.1), (-0.1, -0.1), (0.1, -0.1)]


def templates(nouns: tuple[str, ...]) -> list[str]:
    """Return 22 templates per noun, built from WinCLIP's pattern."""
    found = []
    for noun in nouns:
        own = "an" if noun.startswith("i") else "a"
        for adjective in ("cropped", "close-up", "bright", "dark", "jpeg corrupted", "blurry"):
            found += [f"a {adjective} {noun} of {article} {{}}" for article in ("a", "the")]
        found += [
            f"{own} {noun} of {article} {size}{{}}" for size in ("", "small ", "large ") for article in ("a", "the")
        ]
        for purpose in ("visual inspection", "anomaly detection"):
            found += [f"{own} {noun} of {article} {{}} for {purpose}" for article in ("a", "the")]
    return found


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def raw_text(slow: Any, text: str) -> Array:
    """Return the (C,) output of the text tower, not normalised."""
    ids = slow.tokenize([text])[0].tolist()
    ids = ids[: ids.index(max(ids)) + 1]
    x = slow.p["token_embedding.weight"][ids] + slow.p["positional_embedding"][: len(ids)]
    for number in range(slow.text_layers):
        x = slow.block(f"transformer.resblocks.{number}", x, slow.text_heads, causal=True)
    return slow.layer_norm("ln_final", x)[-1] @ slow.p["text_projection"]


@pytest.fixture(scope="module")
def banks(slow) -> list[Array]:
    """Return the bank (2, 462, C) of each image's class, normal then abnormal; states and templates in any order."""
    found = []
    for name, nouns in zip(CLASS_NAMES, NOUNS, strict=True):
        both = []
        for states in (NORMAL, ABNORMAL):
            texts = [template.format(state.format(name)) for state in states for template in templates(nouns)]
            both.append(np.stack([raw_text(slow, text) for text in texts]))
        found.append(np.stack(both))
    return found


def views(image: Array) -> list[Array]:
    """Return 22 views of (3, S, S), sampled by scipy with the centres of the outer pixels as the edges."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1) * 2 - 1  # -1..1, down and to the right

    def read(x: Array, y: Array) -> Array:
        places = [(axis + 1) / 2 * (SIZE - 1) for axis in (y, x)]
        return np.stack([map_coordinates(channel, places, order=1, mode="mirror") for channel in image])

    found = [image]
    found += [read(np.cos(a) * columns - np.sin(a) * rows, np.sin(a) * columns + np.cos(a) * rows) for a in ANGLES]
    found += [read(columns + right, rows + down) for right, down in SHIFTS]
    gray = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    found += [image[:, :, ::-1], np.stack([gray] * 3)]
    return [*found, *(np.rot90(image, quarter, axes=(1, 2)) for quarter in (1, 2, 3))]


def vv_patches(slow, image: Array, start: int) -> Array:
    """Return the (P, C) patches of the V-V stream after the last block, projected, not normalised."""
    x = slow.embed(image)
    stream = None
    for number in range(6):
        name = f"visual.transformer.resblocks.{number}"
        if number + 1 >= start:
            stream = x if stream is None else stream
            inner = slow.layer_norm(f"{name}.ln_1", x)
            weight, bias = slow.p[f"{name}.attn.in_proj_weight"], slow.p[f"{name}.attn.in_proj_bias"]
            values = (inner @ weight.T + bias)[:, -x.shape[1] :]
            mixed = []
            for v in np.split(values, slow.vision_heads, axis=1):
                mixed.append(softmax(v @ v.T / np.sqrt(v.shape[1]), axis=1) @ v)
            stream = stream + slow.linear(f"{name}.attn.out_proj", np.concatenate(mixed, axis=1))
        x = slow.block(name, x, slow.vision_heads)
    return slow.layer_norm("visual.ln_post", stream[1:]) @ slow.p["visual.proj"]


def adapt(patches: Array, text: Array, bank: Array, draws: Draws, rate: float) -> Array:
    """Take steps of AdamW with gradients derived by hand and weight decay 0.01."""
    weight, bias, noises = (getattr(draws, part.name).double().numpy().copy() for part in dataclasses.fields(draws))
    direction = text[1] - text[0]
    moments = [[np.zeros_like(p), np.zeros_like(p)] for p in (weight, bias)]
    for step, noise in enumerate(noises, start=1):
        gradients = [np.zeros_like(weight), np.zeros_like(bias)]
        for x, noisy in ((patches, False), (patches + noise, True)):
            u = unit(x)
            h = np.tanh(u @ weight.T + bias)
            y = 0.5 * x + 0.5 * h @ bank
            v = unit(y)
            z = v @ direction
            p = expit(z)
            dz = -0.5 * (1 - p) if noisy else -z * p * (1 - p) + 0.5 * p
            dz = dz / len(x)
            dy = dz[:, None] * (direction - v * z[:, None]) / np.linalg.norm(y, axis=1, keepdims=True)
            da = (0.5 * dy @ bank.T) * (1 - h**2)
            gradients[0] += da.T @ u
            gradients[1] += da.sum(0)
        for p, g, moment in zip((weight, bias), gradients, moments, strict=True):
            p *= 1 - rate * 0.01
            moment[0] = 0.9 * moment[0] + 0.1 * g
            moment[1] = 0.999 * moment[1] + 0.001 * g**2
            p -= rate * moment[0] / (1 - 0.9**step) / (np.sqrt(moment[1] / (1 - 0.999**step)) + 1e-8)
    return 0.5 * patches + 0.5 * np.tanh(unit(patches) @ weight.T + bias) @ bank


@pytest.fixture(scope="module")
def ours(backbone: Backbone, images: torch.Tensor) -> Batch:
    features = backbone.encode_images(images, {Tap("vv", backbone.layers), Tap("views", 22)})
    return Batch(["a.png", "b.png"], CLASS_NAMES, features)


@pytest.mark.parametrize("steps", [0, 5])
def test_forward_equals_the_formulas(
    backbone: Backbone, slow, images: torch.Tensor, ours: Batch, banks: list[Array], steps: int
) -> None:
    rate = 1e-2  # ten times that of the released code, so that the steps have a visible effect
    options = {"adaptation_steps": steps, "adaptation_rate": rate}
    with torch.no_grad():
        at_grid, at_image = (
            AnoClip(backbone, AnoClipOptions(map_resolution=where, **options), seed=0).eval()(ours)
            for where in ("grid", "image")
        )
    for number, bank in enumerate(banks):
        image = images[number].double().numpy()
        text = unit(bank.mean(1))
        scores = []
        for view in views(image):
            feature = slow.project(slow.blocks(slow.embed(view))[6][0])
            scores.append(slow.probability(feature, *text, 1.0))
        patches = vv_patches(slow, image, backbone.config.vv_start)
        plain = patches
        if steps:
            draws = Draws.of(2 * 462, GRID**2, patches.shape[1], steps, torch.device("cpu"))
            patches = adapt(patches, text, unit(bank.reshape(-1, bank.shape[2])), draws, rate)
            assert np.abs(unit(patches) - unit(plain)).max() > 0.1  # so that the comparison is not trivial
        raw = expit(unit(patches) @ (text[1] - text[0])).reshape(GRID, GRID)
        padded = np.pad(raw, 1, mode="edge")
        smooth = np.zeros_like(raw)
        for row in range(GRID):
            for column in range(GRID):
                smooth[row, column] = padded[row : row + 3, column : column + 3].mean()
        for found in (at_grid, at_image):
            np.testing.assert_allclose(found.image_score[number], np.mean(scores), atol=1e-6)
        np.testing.assert_allclose(at_grid.map[number], smooth, atol=1e-6)
        np.testing.assert_allclose(at_image.map[number], bilinear(smooth, SIZE, aligned=True), atol=1e-6)
