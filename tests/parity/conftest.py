"""A second implementation of CLIP in NumPy and float64, from open_clip's parameters alone, one sequence at a time.

The tests of this folder build each method's forward on it, from the formulas in docs/methods, and share no code with
the package: they start at pixels and text and end at scores.
"""

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import erf, softmax

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.methods.base import Batch

Array = NDArray[np.float64]
CLASS_NAMES = ["metal nut", "leather"]  # class names of the two images


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class SlowClip:
    """The equations of a CLIP with a ViT, GELU and pre-norm blocks."""

    def __init__(self, backbone: Backbone):
        clip = backbone.clip
        self.p = {name: tensor.detach().double().numpy() for name, tensor in clip.state_dict().items()}
        self.vision_heads = clip.visual.transformer.resblocks[0].attn.num_heads
        self.text_heads = clip.transformer.resblocks[0].attn.num_heads
        self.vision_layers, self.text_layers = len(clip.visual.transformer.resblocks), len(clip.transformer.resblocks)
        self.tokenize = open_clip.get_tokenizer(backbone.config.model)

    def layer_norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

    def linear(self, name: str, x: Array) -> Array:
        return x @ self.p[f"{name}.weight"].T + self.p[f"{name}.bias"]

    def attention(self, name: str, x: Array, heads: int, causal: bool) -> Array:
        """Attend from (L, W) to (L, W), one head at a time."""
        q, k, v = np.split(x @ self.p[f"{name}.in_proj_weight"].T + self.p[f"{name}.in_proj_bias"], 3, axis=1)
        width = x.shape[1] // heads
        mixed = []
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            scores = q[:, own] @ k[:, own].T / np.sqrt(width)
            if causal:
                scores[np.triu_indices(len(x), 1)] = -np.inf
            mixed.append(softmax(scores, axis=1) @ v[:, own])
        return self.linear(f"{name}.out_proj", np.concatenate(mixed, axis=1))

    def block(self, name: str, x: Array, heads: int, causal: bool = False) -> Array:
        x = x + self.attention(f"{name}.attn", self.layer_norm(f"{name}.ln_1", x), heads, causal)
        hidden = self.linear(f"{name}.mlp.c_fc", self.layer_norm(f"{name}.ln_2", x))
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2  # GELU
        return x + self.linear(f"{name}.mlp.c_proj", hidden)

    def embed(self, image: Array) -> Array:
        """Turn (3, S, S) normalised pixels into the input of the first block, (1 + P, W), the class token first."""
        kernel = self.p["visual.conv1.weight"]  # (W, 3, p, p)
        side = kernel.shape[-1]
        tokens = [self.p["visual.class_embedding"]]
        for top in range(0, image.shape[1], side):
            for left in range(0, image.shape[2], side):
                patch = image[:, top : top + side, left : left + side]
                tokens.append((kernel * patch).sum((1, 2, 3)))
        return self.layer_norm("visual.ln_pre", np.stack(tokens) + self.p["visual.positional_embedding"])

    def blocks(self, x: Array) -> dict[int, Array]:
        """Return the tokens after each block, keyed by its number from 1; x can be any subset of tokens."""
        after = {}
        for number in range(1, self.vision_layers + 1):
            x = self.block(f"visual.transformer.resblocks.{number - 1}", x, self.vision_heads)
            after[number] = x
        return after

    def project(self, tokens: Array) -> Array:
        return unit(self.layer_norm("visual.ln_post", tokens) @ self.p["visual.proj"])

    def encode_text(self, text: str) -> Array:
        """Return a (C,) unit vector. Tokens after the end of the text are dropped: no token attends to later ones."""
        ids = self.tokenize([text])[0].tolist()
        ids = ids[: ids.index(max(ids)) + 1]
        x = self.p["token_embedding.weight"][ids] + self.p["positional_embedding"][: len(ids)]
        for number in range(self.text_layers):
            x = self.block(f"transformer.resblocks.{number}", x, self.text_heads, causal=True)
        return unit(self.layer_norm("ln_final", x)[-1] @ self.p["text_projection"])

    def mean_text(self, texts: list[str]) -> Array:
        return unit(np.mean([self.encode_text(text) for text in texts], axis=0))

    @staticmethod
    def probability(vector: Array, normal: Array, abnormal: Array, temperature: float) -> float:
        """Return the probability of abnormal: the softmax over two cosine similarities."""
        for_normal, for_abnormal = (np.exp(vector @ text / temperature) for text in (normal, abnormal))
        return float(for_abnormal / (for_normal + for_abnormal))


@pytest.fixture(scope="session")
def slow(backbone: Backbone) -> SlowClip:
    return SlowClip(backbone)


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """Return (2, 3, 32, 32) normalised pixels: 4 x 4 patches of 8."""
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="session")
def batch(backbone: Backbone, images: torch.Tensor) -> Batch:
    """Return these images as a batch of the package: three streams at the four stages, other taps, and masks."""
    taps = {Tap(kind, block) for kind in ("tokens", "vv", "qkv") for block in backbone.quarters}
    taps |= {Tap("cls", backbone.layers), Tap("tokens", backbone.layers - 1), Tap("calibrated", 4)}
    taps |= {Tap("windows", 2), Tap("windows", 3), Tap("tokens", 12, "dino")}
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[1, 5:20, 9:14] = True
    features = backbone.encode_images(images, taps)
    return Batch(["a.png", "b.png"], CLASS_NAMES, features, torch.tensor([0, 1]), masks)


@pytest.fixture(scope="session")
def april_gan_templates() -> list[str]:
    """Return the 35 templates, built from their pattern."""
    adjectives = "bad", "low resolution", "cropped", "bright", "dark", "close-up", "black and white", "jpeg corrupted"
    patterns = [f"a {adjective} photo of {{}}" for adjective in (*adjectives, "blurry", "good")]
    texts = [pattern.format(f"{article} {{}}") for pattern in patterns for article in ("a", "the")]
    texts += [f"a photo of {article} {size} {{}}" for size in ("cool", "small", "large") for article in ("a", "the")]
    texts += [f"a photo of {determiner} {{}}" for determiner in ("a", "the", "one", "my")]
    texts += [f"there is {article} {{}} in the scene" for article in ("a", "the")]
    texts += [f"this is {determiner} {{}} in the scene" for determiner in ("a", "the", "one")]
    return [f"{text}." for text in texts]


@pytest.fixture(scope="session")
def normal_states() -> list[str]:
    """Return the seven normal states of WinCLIP and APRIL-GAN."""
    good = [f"{word} {{}}" for word in ("flawless", "perfect", "unblemished")]
    return ["{}", *good, *(f"{{}} without {word}" for word in ("flaw", "defect", "damage"))]


@pytest.fixture(scope="session")
def april_gan_texts(
    slow: SlowClip, april_gan_templates: list[str], normal_states: list[str]
) -> list[tuple[Array, Array]]:
    """Return the normal and the abnormal text vector of each image's class."""
    abnormal_states = ["damaged {}", "broken {}", "{} with flaw", "{} with defect", "{} with damage"]

    def vector(states: list[str], name: str) -> Array:
        return slow.mean_text([text.format(state.format(name)) for text in april_gan_templates for state in states])

    return [(vector(normal_states, name), vector(abnormal_states, name)) for name in CLASS_NAMES]
