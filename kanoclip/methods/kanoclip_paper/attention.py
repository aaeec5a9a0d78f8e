"""The attention layers of Bi-CMCI, which options choose from."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention of query tokens to source tokens or to themselves."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, query: Tensor, source: Tensor | None = None) -> Tensor:
        """Attend from (B, L, d) queries to (B, M, d) sources: (B, L, d)."""
        source = query if source is None else source
        return self.attention(query, source, source, need_weights=False)[0]


class TwoAttentions(nn.Module):
    """Patches attend to the text and the text to the patches, with separate weights."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.text_to_vision = Attention(width, heads)
        self.vision_to_text = Attention(width, heads)

    def forward(self, f: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return what to add to the patches (B, P, d) and to the text (B, 2, d)."""
        return self.text_to_vision(f, t), self.vision_to_text(t, f)


class SharedSimilarity(nn.Module):
    """One similarity matrix of patches and text, normalised over the text for the patches and vice versa.

    As in GLIP (Li et al. 2022) and GroundingDINO (Liu et al. 2023).
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.vision_key, self.text_key, self.vision_value, self.text_value, self.vision_out, self.text_out = (
            nn.Linear(width, width) for _ in range(6)
        )

    def forward(self, f: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return what to add to the patches (B, P, d) and to the text (B, 2, d)."""
        q, k = self._split(self.vision_key(f)), self._split(self.text_key(t))  # (B, heads, P or 2, d / heads)
        similarity = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5  # (B, heads, P, 2)
        for_vision = similarity.softmax(3) @ self._split(self.text_value(t))  # (B, heads, P, d / heads)
        for_text = similarity.softmax(2).transpose(2, 3) @ self._split(self.vision_value(f))  # (B, heads, 2, d / heads)
        return self.vision_out(self._join(for_vision)), self.text_out(self._join(for_text))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _join(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


class CrossAttention(nn.Module):
    """Both directions, in parallel, as pre-norm residuals.

    Args:
        width: d, of the tokens.
        inner: returns the updates of the patches and the text from their normalised tokens.
        layer_scale: initial value of a factor per channel of the updates; None for no factor.
    """

    def __init__(self, width: int, inner: nn.Module, layer_scale: float | None = None):
        super().__init__()
        self.vision_norm, self.text_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inner = inner
        self.scales: nn.ParameterList | None = None
        if layer_scale is not None:
            self.scales = nn.ParameterList(torch.full((width,), layer_scale) for _ in range(2))

    def forward(self, f: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, P, d) patches and (B, 2, d) text after attending to each other."""
        for_vision, for_text = self.inner(self.vision_norm(f), self.text_norm(t))
        if self.scales is not None:
            for_vision, for_text = for_vision * self.scales[0], for_text * self.scales[1]
        return f + for_vision, t + for_text


class DeformableSelfAttention(nn.Module):
    """Self-attention whose keys and values are sampled at learned offsets from a coarse grid (DAT, Xia et al. 2022).

    Without DAT's relative position bias: the paper mentions none, and CLIP's tokens carry their position.

    Args:
        width: d, of the tokens.
        heads: attention heads.
        grid: (h, w) of the patches.
        groups: number of channel groups with separate offsets.
        stride: distance in patches between sampled points.
        kernel: size of the offset network's depthwise convolution, odd.
        offset_range: largest offset, in half distances between sampled points; None: unlimited.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        grid: tuple[int, int],
        groups: int,
        stride: int,
        kernel: int,
        offset_range: float | None = None,
    ):
        super().__init__()
        self.heads, self.grid, self.groups, self.offset_range = heads, grid, groups, offset_range
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        channels = width // groups
        self.offset_conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels)
        self.offset_norm = nn.LayerNorm(channels)
        self.offset_out = nn.Linear(channels, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, P, d) patch tokens, row-major, P = h w, to (B, P, d)."""
        q = self.query(x)  # (B, P, d)
        points = self.sampling_points(q)  # (B g, h', w', 2)
        sampled = F.grid_sample(self._groups_of(x), points, mode="bilinear", align_corners=True)  # (B g, d/g, h', w')
        sampled = sampled.reshape(x.shape[0], x.shape[2], -1).transpose(1, 2)  # (B, P', d)
        q, k, v = (
            tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for tokens in (q, self.key(sampled), self.value(sampled))
        )
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, P, d / heads)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def sampling_points(self, q: Tensor) -> Tensor:
        """Return (B g, h', w', 2): the coarse grid plus offsets, clamped to the image, as (x, y) in -1..1."""
        hidden = self.offset_conv(self._groups_of(q)).permute(0, 2, 3, 1)  # (B g, h', w', d/g)
        offsets = self.offset_out(F.gelu(self.offset_norm(hidden)))  # (B g, h', w', 2)
        rows, columns = hidden.shape[1:3]
        if self.offset_range is not None:
            offsets = offsets.tanh() * self.offset_range / offsets.new_tensor([columns, rows])
        y, x = (torch.linspace(0.5, n - 0.5, n, device=q.device) / n * 2 - 1 for n in (rows, columns))
        reference = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # (h', w', 2)
        return (reference + offsets).clamp(-1, 1)

    def _groups_of(self, x: Tensor) -> Tensor:
        """Reshape (B, P, d) to (B g, d/g, h, w)."""
        return x.transpose(1, 2).reshape(x.shape[0] * self.groups, -1, *self.grid)
