"""Any open_clip ViT as a frozen backbone with two token streams from one forward.

The original stream is CLIP as trained. The local stream (CLIP Surgery, Li et al. 2023, used by KAnoCLIP section 2.3,
equations 4 to 8) starts as a copy of it and from then on accumulates value-value attention, without the MLP:

    S_l = S_{l-1} + Proj_l(softmax(V_l V_l^T / sqrt(d)) V_l),    V_l = W_v ln_1(x_{l-1})

where x is the original stream, which the local one never changes.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from kanoclip.backbones.streams import ImageFeatures, Streams
from kanoclip.backbones.weights import create_open_clip
from kanoclip.backbones.windows import window_embeddings, window_patches
from kanoclip.config import BackboneConfig
from kanoclip.types import InputError


class Backbone(nn.Module):
    """A frozen CLIP. Build it with `load_backbone`.

    Attributes:
        config: what it was built from, with taps and vv_start filled in. layers, width, joint_width: blocks and W of
        the image tower, C of the joint space. text_layers, text_width: of the text tower. grid: (h, w) patches of an
        image, P = h w. weights_sha256: of all parameters as used, position table resized.
    """

    clip: Any  # open_clip's classes carry no types
    text: Any
    blocks: Any

    def __init__(self, clip: Any, config: BackboneConfig):
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        visual = clip.visual
        self.blocks = visual.transformer.resblocks
        self.text = getattr(clip, "text", clip)
        self.tokenize = open_clip.get_tokenizer(config.model)
        self.layers: int = len(self.blocks)
        self.width: int = visual.ln_post.normalized_shape[0]
        self.joint_width: int = visual.output_dim
        self.text_width: int = self.text.token_embedding.embedding_dim
        self.text_layers: int = len(self.text.transformer.resblocks)
        self.grid: tuple[int, int] = tuple(visual.grid_size)
        self.config = complete(config, self.layers)
        self.weights_sha256 = _state_sha256(clip)
        self.transform = open_clip.image_transform(
            config.image_size, is_train=False, mean=visual.image_mean, std=visual.image_std, resize_mode="squash"
        )

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.clip.visual.class_embedding.device

    @property
    def quarters(self) -> tuple[int, ...]:
        """The configured taps."""
        assert self.config.taps is not None
        return self.config.taps

    def preprocess(self, image: Image.Image) -> Tensor:
        """(3, S, S) normalised pixels of an RGB image, squashed to a square with bicubic interpolation."""
        return self.transform(image)

    @torch.no_grad()
    def encode_images(self, pixels: Tensor, streams: Streams) -> ImageFeatures:
        """Run the image tower once over whole images, and over windows if these are wanted.

        Args:
            pixels: (B, 3, S, S), from `preprocess`.
            streams: what to keep.
        """
        pixels = pixels.to(self.device)
        with self._autocast():
            features = self.stream_tokens(pixels, streams)
            for side in streams.windows:
                features.windows[side] = window_embeddings(
                    self.clip.visual._embeds(pixels), self.grid, side, self._class_embedding
                )
        for side in streams.pixels:
            features.pixels[side] = self._plain(pixels, side)
        return features

    def feature_shapes(self, streams: Streams) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor of an image's features, by the name it has in a cache: `cls`, `original/6`, ..."""
        tokens = (1 + self.grid[0] * self.grid[1], self.width)
        shapes: dict[str, tuple[int, ...]] = {"cls": (self.width,)}
        shapes |= {f"{name}/{tap}": tokens for name in ("original", "local") for tap in getattr(streams, name)}
        shapes |= {
            f"windows/{side}": (len(window_patches(self.grid, side)), self.joint_width) for side in streams.windows
        }
        return shapes | {f"pixels/{side}": (3, side, side) for side in streams.pixels}

    def _class_embedding(self, x: Tensor) -> Tensor:
        """(N, L, W) inputs of the first block to (N, C) unit vectors."""
        for block in self.blocks:
            x = block(x)
        return self.project(x[:, 0])

    def _plain(self, pixels: Tensor, side: int) -> Tensor:
        """(B, 3, side, side) RGB in 0..1 from what `preprocess` gives."""
        mean, std = (
            torch.tensor(values, device=pixels.device).view(3, 1, 1)
            for values in (self.clip.visual.image_mean, self.clip.visual.image_std)
        )
        return F.interpolate(pixels * std + mean, (side, side), mode="bilinear", antialias=True).clamp(0, 1)

    def stream_tokens(self, pixels: Tensor, streams: Streams) -> ImageFeatures:
        """The tokens of whole images, with gradients, in the precision of the caller; for training a backbone."""
        start = self.config.vv_start
        assert start is not None
        last_local = max(streams.local, default=0)
        original: dict[int, Tensor] = {}
        local: dict[int, Tensor] = {}
        x = self.clip.visual._embeds(pixels)  # (B, 1 + P, W)
        s = x
        for number, block in enumerate(self.blocks, start=1):
            if number < start:
                x = block(x)
                s = x
            else:
                if number <= last_local:
                    s = s + block.ls_1(value_value_attention(block.attn, block.ln_1(x)))
                x = block(x)
            if number in streams.original:
                original[number] = x
            if number in streams.local:
                local[number] = s
        return ImageFeatures(cls=x[:, 0], original=original, local=local, windows={}, pixels={})

    def project(self, tokens: Tensor, norm: bool = True) -> Tensor:
        """Take tokens of the image tower to unit vectors of the joint space: (..., W) -> (..., C).

        Args:
            tokens: of the residual stream.
            norm: ln_post comes first, as CLIP was trained.
        """
        if norm:
            tokens = self.clip.visual.ln_post(tokens)
        if self.clip.visual.proj is not None:
            tokens = tokens @ self.clip.visual.proj
        return F.normalize(tokens, dim=-1)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """(T, C) features of texts, not normalised, as `open_clip.CLIP.encode_text`; texts over 77 tokens are cut."""
        tokens = self.tokenize(list(texts)).to(self.device)
        return self.encode_embeddings(self.text.token_embedding(tokens), tokens)

    def encode_embeddings(
        self, embeddings: Tensor, tokens: Tensor, before_block: Callable[[int, Tensor], Tensor] | None = None
    ) -> Tensor:
        """Run the text tower on word embeddings, some of which may be learned.

        Args:
            embeddings: (T, L, D) one vector a token, position table not yet added.
            tokens: (T, L) token ids of the same texts; they tell where each text ends.
            before_block: given a block's number, from 1, and its input (T, L', D), what the block shall read instead.

        Returns:
            (T, C), not normalised.
        """
        text = self.text
        end = tokens.argmax(dim=-1)  # the end-of-text token has the largest id
        length = int(end.max()) + 1  # causal attention: what follows the last end changes nothing
        x = embeddings[:, :length] + text.positional_embedding[:length]
        mask = text.attn_mask[:length, :length] if text.attn_mask is not None else None
        for number, block in enumerate(text.transformer.resblocks, start=1):
            x = block(before_block(number, x) if before_block else x, attn_mask=mask)
        x = text.ln_final(x)
        x = x[torch.arange(len(x), device=x.device), end]
        if isinstance(text.text_projection, nn.Linear):
            return text.text_projection(x)
        return x if text.text_projection is None else x @ text.text_projection

    def provenance(self) -> dict[str, object]:
        """What a cached feature depends on."""
        return {
            "backbone": _meaning(self.config),
            "weights_sha256": self.weights_sha256,
            "preprocessing": repr(self.transform),
        }

    def _autocast(self) -> torch.autocast:
        precision = self.config.precision
        if precision == "auto":
            on_gpu = self.device.type == "cuda"
            precision = ("bf16" if torch.cuda.is_bf16_supported() else "fp16") if on_gpu else "fp32"
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=precision != "fp32")


def value_value_attention(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """Attention in which the values are queries and keys as well (KAnoCLIP, equation 4), with the trained weights.

    Args:
        attention: of a block of the tower.
        x: (B, L, W) normalised tokens.

    Returns:
        (B, L, W).
    """
    batch, length, width = x.shape
    bias = attention.in_proj_bias
    v = F.linear(x, attention.in_proj_weight[2 * width :], None if bias is None else bias[2 * width :])
    v = v.view(batch, length, attention.num_heads, -1).transpose(1, 2)  # (B, heads, L, W / heads)
    mixed = F.scaled_dot_product_attention(v, v, v)
    return attention.out_proj(mixed.transpose(1, 2).reshape(batch, length, width))


def complete(config: BackboneConfig, layers: int) -> BackboneConfig:
    """Fill in taps and vv_start for a tower of so many blocks.

    Raises:
        InputError: a tap or the start lies outside the tower.
    """
    taps = config.taps or tuple(max(1, round(layers * quarter / 4)) for quarter in (1, 2, 3, 4))
    start = config.vv_start or taps[0]
    if max(*taps, start) > layers:
        raise InputError(
            f"backbone {config.model}: taps {taps} and vv_start {start} must be at most {layers}, its number of blocks"
        )
    return config.model_copy(update={"taps": taps, "vv_start": start})


def load_backbone(config: BackboneConfig, device: str | torch.device = "cpu") -> Backbone:
    """Build a frozen backbone.

    Raises:
        InputError: an unknown model or tag, a missing file, weights trained with another activation.
    """
    return Backbone(create_open_clip(config), config).to(device)


def _meaning(config: BackboneConfig) -> dict[str, object]:
    """The configuration without the precision, which changes rounding but not meaning, as plain values."""
    return config.model_dump(mode="json", exclude={"precision"})


def _state_sha256(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
