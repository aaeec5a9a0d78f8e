"""AnomalyCLIP from pixels and text, by the formulas of docs/methods/anomalyclip.md."""

import numpy as np
import pytest
import torch
from formulas import Array, bilinear, dice, focal, softmax
from scipy.ndimage import gaussian_filter
from scipy.special import softmax as over_tokens

from kanoclip.backbones.clip import Backbone
from kanoclip.maps import final_map
from kanoclip.methods.anomalyclip import AnomalyCLIP, AnomalyCLIPOptions
from kanoclip.methods.base import Batch

GRID, SIZE = 4, 32
TAPS = {"last": (6,), "stages": (2, 3, 4, 6)}  # of six blocks
OPTIONS = {"prompt_length": 3, "deep_length": 2, "deep_depth": 3}


def build(backbone: Backbone, **options: object) -> AnomalyCLIP:
    torch.manual_seed(0)
    method = AnomalyCLIP(backbone, AnomalyCLIPOptions(**OPTIONS, **options), seed=0).eval()
    for parameter in method.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5)  # large, so that every part shows in the result
    return method


def learned_text(slow, method: AnomalyCLIP, text: str, polarity: int) -> Array:
    """Return T_n, T_a: texts whose words 1 ... E are learned, with learned tokens 1 ... M before blocks 2 ... J."""
    context, layers = (
        parameter.detach().double().numpy() for parameter in (method.prompts.context, method.prompts.deep.layers)
    )
    ids = slow.tokenize([text])[0].tolist()
    ids = ids[: ids.index(max(ids)) + 1]
    x = np.stack([slow.p["token_embedding.weight"][number] for number in ids])
    x[1:4] = context[polarity]
    x = x + slow.p["positional_embedding"][: len(ids)]
    for block in range(1, slow.text_layers + 1):
        if 2 <= block <= OPTIONS["deep_depth"]:
            x[1:3] = layers[block - 2]
        x = slow.block(f"transformer.resblocks.{block - 1}", x, slow.text_heads, causal=True)
    vector = slow.layer_norm("ln_final", x)[-1] @ slow.p["text_projection"]
    return vector / np.linalg.norm(vector)


def value_value(slow, name: str, x: Array) -> Array:
    """Attend in (L, W) with values as queries and keys, one head at a time."""
    width = x.shape[1]
    v = x @ slow.p[f"{name}.in_proj_weight"][2 * width :].T + slow.p[f"{name}.in_proj_bias"][2 * width :]
    heads = []
    for own in np.split(v, slow.vision_heads, axis=1):
        heads.append(over_tokens(own @ own.T / np.sqrt(own.shape[1]), axis=1) @ own)
    return slow.linear(f"{name}.out_proj", np.concatenate(heads, axis=1))


def both_streams(slow, image: Array, start: int) -> tuple[dict[int, Array], dict[int, Array]]:
    """Return the tokens of CLIP and of the V-V stream after each block; the latter starts as a copy before `start`."""
    x = slow.embed(image)
    original, local = slow.blocks(x), {}
    s = original[start - 1]
    for number in range(start, slow.vision_layers + 1):
        name = f"visual.transformer.resblocks.{number - 1}"
        s = s + value_value(slow, f"{name}.attn", slow.layer_norm(f"{name}.ln_1", original[number - 1]))
        local[number] = s
    return original, local


@pytest.fixture(scope="module", params=["last", "stages"])
def where(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def logits(backbone: Backbone, slow, images: torch.Tensor, where: str) -> tuple[Array, Array]:
    """Return logits (2, K, 2, h, w) of the patches and (2, 2) of the images, divided by 0.07."""
    method = build(backbone)
    texts = [learned_text(slow, method, *of) for of in (("x x x object.", 0), ("x x x damaged object.", 1))]
    patches, globally = np.zeros((2, len(TAPS[where]), 2, GRID, GRID)), np.zeros((2, 2))
    for number in range(2):
        original, local = both_streams(slow, images[number].double().numpy(), start=2)
        feature = original[6][0] @ slow.p["visual.proj"]  # no ln_post
        for polarity, text in enumerate(texts):
            globally[number, polarity] = feature @ text / np.linalg.norm(feature) / 0.07
            for k, tap in enumerate(TAPS[where]):
                for patch, token in enumerate(local[tap][1:]):
                    place = patch // GRID, patch % GRID
                    patches[number, k, polarity, *place] = slow.project(token) @ text / 0.07
    return patches, globally


def test_forward_equals_the_formulas(backbone: Backbone, batch: Batch, where: str, logits: tuple[Array, Array]) -> None:
    with torch.no_grad():
        method = build(backbone, map_blocks=where)
        found = method(batch)
    patches, globally = logits
    maps = softmax(patches).mean(1)
    assert maps.std() > 1e-3  # so that the comparison is not trivial
    np.testing.assert_allclose(found.map, maps, atol=1e-5)
    expected = np.exp(globally[:, 1]) / np.exp(globally).sum(1)
    np.testing.assert_allclose(found.image_score, expected, atol=1e-5)
    smooth = [gaussian_filter(of_image, 4 * SIZE / 518) for of_image in bilinear(maps, SIZE, aligned=False)]
    np.testing.assert_allclose(final_map(found.map, SIZE, method.sigma), smooth, atol=1e-5)


def test_the_class_token_can_be_normalised_first(backbone: Backbone, slow, images: torch.Tensor, batch: Batch) -> None:
    method = build(backbone, class_token_norm=True)
    normal, abnormal = (learned_text(slow, method, *of) for of in (("x x x object.", 0), ("x x x damaged object.", 1)))
    with torch.no_grad():
        found = method(batch).image_score
    for number in range(2):
        token = slow.blocks(slow.embed(images[number].double().numpy()))[6][0]
        expected = slow.probability(slow.project(token), normal, abnormal, 0.07)
        np.testing.assert_allclose(found[number], expected, atol=1e-5)


def test_losses_equal_the_formulas(backbone: Backbone, batch: Batch, where: str, logits: tuple[Array, Array]) -> None:
    found = {name: loss.item() for name, loss in build(backbone, map_blocks=where).losses(batch).items()}
    patches, globally = logits
    maps, masks = bilinear(softmax(patches), SIZE, aligned=False), batch.masks.numpy()
    levels = range(maps.shape[1])
    entropies = [-np.log(np.exp(globally[i, label]) / np.exp(globally[i]).sum()) for i, label in enumerate((0, 1))]
    expected = {
        "image": np.mean(entropies),
        "focal": 4 * sum(focal(maps[:, k], masks) for k in levels),
        "dice_abnormal": 4 * sum(dice(maps[:, k], masks) for k in levels),
        "dice_normal": 4 * sum(dice(1 - maps[:, k], ~masks) for k in levels),
    }
    assert found == pytest.approx(expected, abs=1e-5, rel=1e-5)
