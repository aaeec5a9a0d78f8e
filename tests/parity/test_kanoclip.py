"""KAnoCLIP from pixels and text, by the formulas of docs/kanoclip.md: one image, head, patch and point at a time."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import erf, softmax

from kanoclip.backbones.clip import Backbone
from kanoclip.methods.base import Batch
from kanoclip.methods.kanoclip_paper import KAnoCLIP
from kanoclip.methods.kanoclip_paper.options import KAnoCLIPOptions

Array = NDArray[np.float64]
ROOT = Path(__file__).parents[2]
GRID, SIZE = 4, 32
TAPS = 2, 3, 4, 6  # the quarters of six blocks, 1.5 rounded to 2 and 4.5 to 4
START = 2  # the V-V stream starts at the first tap
TEMPERATURE, SIGMA = 0.07, 4 * SIZE / 518
WORDS = ("normal", "perfect"), ("abnormal", "defective")
IMAGE_SCORES = (  # the values that `SlowKAnoCLIP` returns after the map, in its order
    {"image_score": "probability"},
    {"image_score": "max", "global_loss_on": "probability"},
    {"image_score": "sum"},
)


def quickstart_options() -> dict[str, object]:
    text = (ROOT / "config" / "quickstart.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["methods"]["kanoclip"]


def unit(x: Array) -> Array:
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def bilinear(image: Array, row: float, column: float) -> Array:
    """Return the (d,) vector of (h, w, d) at a fractional position inside the grid."""
    total = np.zeros(image.shape[2])
    for r in range(image.shape[0]):
        for c in range(image.shape[1]):
            total += max(0.0, 1 - abs(row - r)) * max(0.0, 1 - abs(column - c)) * image[r, c]
    return total


class SlowKAnoCLIP:
    """The equations, with the parameters of a method and a CLIP in NumPy."""

    def __init__(self, slow, method: KAnoCLIP):
        self.slow, self.options = slow, method.options
        self.p = {name: parameter.detach().double().numpy() for name, parameter in method.learned().items()}

    def layer_norm(self, name: str, x: Array) -> Array:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

    def linear(self, name: str, x: Array) -> Array:
        return x @ self.p[f"{name}.weight"].T + self.p[f"{name}.bias"]

    def text(self, class_name: str) -> Array:
        """Return F_text (2, C): learned words, a state word and the class name, averaged over words."""
        clip, vectors = self.slow.p, []
        for context, words in zip(self.p["prompts.context"], WORDS, strict=True):
            encoded = []
            for word in words:
                ids = self.slow.tokenize([" ".join(["x"] * len(context)) + f" {word} {class_name}."])[0].tolist()
                ids = ids[: ids.index(max(ids)) + 1]
                x = clip["token_embedding.weight"][ids]
                x[1 : 1 + len(context)] = context
                x = x + clip["positional_embedding"][: len(ids)]
                for number in range(self.slow.text_layers):
                    x = self.slow.block(f"transformer.resblocks.{number}", x, self.slow.text_heads, causal=True)
                encoded.append(unit(self.slow.layer_norm("ln_final", x)[-1] @ clip["text_projection"]))
            vectors.append(unit(np.mean(encoded, axis=0)))
        return np.stack(vectors)

    def streams(self, image: Array) -> tuple[dict[int, Array], Array]:
        """Return the V-V stream's tokens at the taps (equations 4 to 8) and the original stream's last class token."""
        x = self.slow.embed(image)
        s, local = x, {}
        for number in range(1, self.slow.vision_layers + 1):
            name = f"visual.transformer.resblocks.{number - 1}"
            if number >= START:
                s = s + self.value_value(f"{name}.attn", self.slow.layer_norm(f"{name}.ln_1", x))
            x = self.slow.block(name, x, self.slow.vision_heads)
            s = x if number < START else s
            local[number] = s
        return {tap: local[tap] for tap in TAPS}, x[0]

    def value_value(self, name: str, x: Array) -> Array:
        clip, width = self.slow.p, x.shape[1]
        v = x @ clip[f"{name}.in_proj_weight"][2 * width :].T + clip[f"{name}.in_proj_bias"][2 * width :]
        return self.slow.linear(f"{name}.out_proj", mix(v, v, v, self.slow.vision_heads))

    def attention(self, name: str, x: Array, y: Array) -> Array:
        (wq, wk, wv), (bq, bk, bv) = (np.split(self.p[f"{name}.in_proj_{kind}"], 3) for kind in ("weight", "bias"))
        mixed = mix(x @ wq.T + bq, y @ wk.T + bk, y @ wv.T + bv, self.options.heads)
        return self.linear(f"{name}.out_proj", mixed)

    def deformable(self, name: str, x: Array) -> Array:
        """Return (P, d): attention to keys and values at points with one offset per group of channels."""
        o = self.options
        q, width = self.linear(f"{name}.query", x), x.shape[1] // o.deform_groups
        points = (GRID - 1) // o.deform_stride + 1
        sampled = np.zeros((points * points, x.shape[1]))
        for group in range(o.deform_groups):
            own = slice(group * width, (group + 1) * width)
            queries, values = (tokens[:, own].reshape(GRID, GRID, width) for tokens in (q, x))
            for r in range(points):
                for c in range(points):
                    hidden = self.p[f"{name}.offset_conv.bias"].copy()
                    for i in range(o.deform_kernel):
                        for j in range(o.deform_kernel):
                            y = r * o.deform_stride + i - o.deform_kernel // 2
                            z = c * o.deform_stride + j - o.deform_kernel // 2
                            if 0 <= y < GRID and 0 <= z < GRID:
                                hidden += self.p[f"{name}.offset_conv.weight"][:, 0, i, j] * queries[y, z]
                    hidden = gelu(self.layer_norm(f"{name}.offset_norm", hidden))
                    shift = self.p[f"{name}.offset_out.weight"] @ hidden  # to the right and down, of an image of 2
                    column, row = (
                        (np.clip((at + 0.5) / points * 2 - 1 + by, -1, 1) + 1) / 2 * (GRID - 1)
                        for at, by in zip((c, r), shift, strict=True)
                    )
                    sampled[r * points + c, own] = bilinear(values, row, column)
        key, value = self.linear(f"{name}.key", sampled), self.linear(f"{name}.value", sampled)
        return self.linear(f"{name}.out", mix(q, key, value, o.heads))

    def stage(self, tap: int, patches: Array, last: Array, text: Array) -> Array:
        """Return the (P, 2) cosine similarities of BiCA, equation 9."""
        name = f"stages.{tap}"
        f, t = self.linear(f"{name}.vision_in", patches), self.linear(f"{name}.text_in", text)
        normed = self.layer_norm(f"{name}.text_attention.norm", t)
        t = t + self.attention(f"{name}.text_attention.inner.attention", normed, normed)
        f = f + self.deformable(f"{name}.patch_attention.inner", self.layer_norm(f"{name}.patch_attention.norm", f))
        of_f = self.layer_norm(f"{name}.cross_attention.vision_norm", f)
        of_t = self.layer_norm(f"{name}.cross_attention.text_norm", t)
        f = f + self.attention(f"{name}.cross_attention.inner.text_to_vision.attention", of_f, of_t)
        t = t + self.attention(f"{name}.cross_attention.inner.vision_to_text.attention", of_t, of_f)
        if self.options.output_space == "clip":
            f = self.slow.project(last) + self.linear(f"{name}.vision_out", f)
            t = text + self.linear(f"{name}.text_out", t)
        return unit(f) @ unit(t).T

    def __call__(self, image: Array, class_name: str) -> tuple[Array, float, float, float]:
        """Return the map (h, w) before smoothing, the global probability, the map's maximum and the image score."""
        text = self.text(class_name)
        local, token = self.streams(image)
        last = local[max(local)][1:]
        cosines = [self.stage(tap, tokens[1:], last, text) for tap, tokens in local.items()]
        stages = [softmax(values / TEMPERATURE, axis=1) for values in cosines]
        normal, abnormal = (sum(maps[:, k] for maps in stages).reshape(GRID, GRID) / 4 for k in (0, 1))  # equation 9
        final = gaussian_filter(at_pixels((abnormal + 1 - normal) / 2), SIGMA)  # equation 10
        feature = self.slow.project(token)
        hidden = self.p["adapter.down.weight"] @ self.layer_norm("adapter.norm", feature)
        adapted = self.p["adapter.up.weight"] @ np.maximum(hidden, 0)  # equation 11
        adapted = unit(feature + adapted if self.options.adapter_residual else adapted)
        probability = softmax(text @ adapted / TEMPERATURE)[1]
        return (abnormal + 1 - normal) / 2, probability, final.max(), (probability + final.max()) / 2  # equation 12


def mix(q: Array, k: Array, v: Array, heads: int) -> Array:
    """Attend from (L, d) queries to (M, d) keys and values."""
    result, size = np.zeros_like(q), q.shape[1] // heads
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        for row in range(len(q)):
            weights = softmax(np.array([q[row, own] @ key[own] for key in k]) / np.sqrt(size))
            result[row, own] = sum(weight * value[own] for weight, value in zip(weights, v, strict=True))
    return result


def gelu(x: Array) -> Array:
    return x * (1 + erf(x / np.sqrt(2))) / 2


def at_pixels(image: Array) -> Array:
    """Interpolate (h, w) to (S, S) at the pixel centres."""
    result = np.zeros((SIZE, SIZE))
    for y in range(SIZE):
        for x in range(SIZE):
            row, column = (np.clip((at + 0.5) * GRID / SIZE - 0.5, 0, GRID - 1) for at in (y, x))
            result[y, x] = bilinear(image[:, :, None], row, column)[0]
    return result


def build(backbone: Backbone, **options: object) -> KAnoCLIP:
    torch.manual_seed(0)
    method = KAnoCLIP(backbone, KAnoCLIPOptions(**options), seed=0).eval()
    with torch.no_grad():
        for parameter in method.learned().values():
            parameter.add_(0.1 * torch.randn_like(parameter))  # so that parts initialised with zeros have an effect
    return method


@pytest.mark.parametrize("options", [{}, quickstart_options()], ids=["defaults", "quickstart"])
def test_forward_equals_the_formulas(
    backbone: Backbone, slow, images: torch.Tensor, batch: Batch, options: dict[str, object]
) -> None:
    methods = [build(backbone, **{**options, **reading}) for reading in IMAGE_SCORES]
    with torch.no_grad():
        found = [method(batch) for method in methods]
    reference = SlowKAnoCLIP(slow, methods[0])
    for number, class_name in enumerate(batch.class_names):
        expected, *scores = reference(images[number].double().numpy(), class_name)
        assert expected.std() > 1e-3  # so that the comparison is not trivial
        for output, score in zip(found, scores, strict=True):
            np.testing.assert_allclose(output.map[number], expected, atol=1e-5)
            np.testing.assert_allclose(output.image_score[number], score, atol=1e-5)
