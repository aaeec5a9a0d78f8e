"""Crane and Crane+ from pixels and text, by the formulas of docs/methods/crane.md.

Only the blocks of the second tower are not implemented again: its tokens are random, so that patches differ clearly.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from formulas import Array, bilinear, dice, focal, softmax
from scipy.special import softmax as over_tokens

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.methods.base import Batch
from kanoclip.methods.crane import Crane
from kanoclip.methods.crane_plus import CranePlus

GRID, SIZE, START, LAST = 4, 32, 2, 6
SECOND = Tap("tokens", 12, "dino")  # 2 x 2 patches
PROMPTS = {"prompt_length": 3, "deep_length": 2, "deep_depth": 3}
CASES = {
    "crane": (Crane, {}),
    "crane-published": (Crane, Crane.published),
    "crane-stages": (Crane, {"map_blocks": "stages", "context_in_training": False}),
    "crane-logits": (Crane, {"map_blocks": "stages", "map_mean": "logits"}),
    "crane-unpooled": (Crane, {"pooling": 0.0, "class_token_norm": False}),
    "crane_plus": (CranePlus, {}),
    "crane_plus-published": (CranePlus, CranePlus.published),
}


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(scope="module", params=CASES)
def method(request: pytest.FixtureRequest, backbone: Backbone) -> Crane:
    kind, options = CASES[request.param]
    made = kind(backbone, kind.Options(**PROMPTS, **options), seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in made.learned().values():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)  # large, so that every part shows in the result
    return made


@pytest.fixture(scope="module")
def drawn(batch: Batch) -> Batch:
    """Return the batch, with tokens of the second tower that differ between patches."""
    tokens = torch.randn(batch.features[SECOND].shape, generator=torch.Generator().manual_seed(3))
    return replace(batch, features={**batch.features, SECOND: tokens})


def learned_text(slow, method: Crane, state: str, polarity: int, image: Array | None) -> Array:
    """Encode the start, E learned words, the image if given, the state, "object", the full stop and the end."""
    context, layers = (parameter.detach().double().numpy() for parameter in method.learned().values())
    ids = slow.tokenize([f"{state} object."])[0].tolist()
    ids = ids[: ids.index(max(ids)) + 1]
    words = [slow.p["token_embedding.weight"][number] for number in ids]
    x = np.stack([words[0], *context[polarity], *([] if image is None else [image]), *words[1:]])
    x = x + slow.p["positional_embedding"][: len(x)]
    for block in range(1, slow.text_layers + 1):
        if 2 <= block <= PROMPTS["deep_depth"]:
            x[1:3] = layers[block - 2]
        x = slow.block(f"transformer.resblocks.{block - 1}", x, slow.text_heads, causal=True)
    return unit(slow.layer_norm("ln_final", x)[-1] @ slow.p["text_projection"])


def projections(slow, block: int, x: Array) -> list[list[Array]]:
    """Return the queries, keys and values of a block, each as a list of heads (L, d)."""
    name = f"visual.transformer.resblocks.{block - 1}"
    y = slow.layer_norm(f"{name}.ln_1", x) @ slow.p[f"{name}.attn.in_proj_weight"].T
    parts = np.split(y + slow.p[f"{name}.attn.in_proj_bias"], 3, axis=1)
    return [np.split(part, slow.vision_heads, axis=1) for part in parts]


def out(slow, block: int, heads: list[Array]) -> Array:
    return slow.linear(f"visual.transformer.resblocks.{block - 1}.attn.out_proj", np.concatenate(heads, axis=1))


def extended(slow, block: int, x: Array) -> Array:
    q, k, v = projections(slow, block, x)
    heads = []
    for trio in zip(q, k, v, strict=True):
        attentions = [over_tokens(e @ e.T / np.sqrt(e.shape[1]), axis=1) for e in trio]
        heads.append(sum(attentions) @ trio[2])
    return out(slow, block, heads)


def by_similarity(slow, method: CranePlus, x: Array, tokens: Array) -> Array:
    """Return the D-attention (P, W) of the input of the last block and the tokens of the second tower."""
    trunk = method.backbone.towers["dino"].trunk
    weight, bias = (p.detach().double().numpy() for p in (trunk.norm.weight, trunk.norm.bias))
    centred = tokens - tokens.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + trunk.norm.eps) * weight + bias
    coarse = unit(normed).T.reshape(-1, 2, 2)
    fine = unit(bilinear(coarse, GRID, aligned=False).reshape(-1, GRID**2).T)
    s = fine @ fine.T
    logits = 3 * (s - 1.2 * s.mean())
    logits[(logits < 0) & ~np.eye(len(s), dtype=bool)] = -np.inf
    # patches attend to some patches and not to others
    assert np.isfinite(logits).sum(1).min() > 1 and np.isinf(logits).any()
    if method.options.d_attn_input == "after_attention":
        q, k, v = projections(slow, LAST, x)
        own = [over_tokens(a @ b.T / np.sqrt(a.shape[1]), axis=1) @ c for a, b, c in zip(q, k, v, strict=True)]
        x = x + out(slow, LAST, own)
    values = projections(slow, LAST, x)[2]
    return out(slow, LAST, [over_tokens(logits, axis=1) @ v[1:] for v in values])


@pytest.fixture(scope="module")
def seen(slow, images: torch.Tensor, drawn: Batch, method: Crane) -> list[tuple[Array, Array]]:
    """Return the feature (C,) and the patches (K, P, C) of each image, as unit vectors."""
    found = []
    for number, image in enumerate(images.double().numpy()):
        x0 = slow.embed(image)
        x = {0: x0, **slow.blocks(x0)}
        local, s = {}, x[START - 1]
        for block in range(START, LAST + 1):
            s = s + extended(slow, block, x[block - 1])
            local[block] = s
        taps = (2, 3, 4, 6) if method.options.map_blocks == "stages" else (6,)
        views = [slow.project(local[tap][1:]) for tap in taps]
        if isinstance(method, CranePlus):
            tokens = drawn.features[SECOND][number, 1:].double().numpy()
            views.append(slow.project(by_similarity(slow, method, x[LAST - 1], tokens)))
        normed = method.options.class_token_norm
        feature = slow.project(x[LAST][0]) if normed else unit(x[LAST][0] @ slow.p["visual.proj"])
        found.append((feature, np.stack(views)))
    return found


def logits(slow, method: Crane, seen: list[tuple[Array, Array]], training: bool) -> tuple[Array, Array]:
    """Return logits (2, K, 2, h, w) of the patches and (2, 2) of the images, divided by their temperatures."""
    options = method.options
    of_patches, of_images = [], []
    for feature, patches in seen:
        image = feature if (options.context_in_training if training else options.context_in_scoring) else None
        texts = [learned_text(slow, method, *of, image) for of in (("", 0), ("damaged", 1))]
        local = np.stack([patches @ text for text in texts], axis=1) / 0.07  # (K, 2, P)
        mean = local.mean(0)
        weights = np.exp(mean[1]) / np.exp(mean).sum(0)
        pooled = unit(sum(weight * patch for weight, patch in zip(weights, patches.mean(0), strict=True)))
        mixed = unit((1 - options.pooling) * feature + options.pooling * pooled)
        of_images.append([mixed @ text / (0.01 if training else 0.07) for text in texts])
        of_patches.append(local.reshape(*local.shape[:2], GRID, GRID))
    return np.array(of_patches), np.array(of_images)


def test_forward_equals_the_formulas(slow, method: Crane, drawn: Batch, seen: list[tuple[Array, Array]]) -> None:
    with torch.no_grad():
        found = method(drawn)
    patches, images = logits(slow, method, seen, training=False)
    if method.options.map_mean == "logits":
        maps = softmax(bilinear(patches.mean(1), SIZE, aligned=False))
    else:
        maps = softmax(patches).mean(1)
    assert maps.std() > 1e-3  # so that the comparison is not trivial
    np.testing.assert_allclose(found.map, maps, atol=1e-5)
    np.testing.assert_allclose(found.image_score, np.exp(images[:, 1]) / np.exp(images).sum(1), atol=1e-5)


def test_losses_equal_the_formulas(slow, method: Crane, drawn: Batch, seen: list[tuple[Array, Array]]) -> None:
    found = {name: loss.item() for name, loss in method.losses(drawn).items()}
    patches, images = logits(slow, method, seen, training=True)
    maps = softmax(patches).repeat(SIZE // GRID, axis=-2).repeat(SIZE // GRID, axis=-1)  # nearest neighbour
    masks, weight = drawn.masks.numpy(), method.options.map_weight
    entropies = [np.log(np.exp(pair - pair[label]).sum()) for label, pair in enumerate(images)]
    views = range(maps.shape[1])
    expected = {
        "image": 0.2 * np.mean(entropies),
        "focal": weight * sum(focal(maps[:, k], masks) for k in views),
        "dice": weight * sum(dice(maps[:, k], masks) for k in views),
    }
    assert found == pytest.approx(expected, abs=1e-5, rel=1e-5)
