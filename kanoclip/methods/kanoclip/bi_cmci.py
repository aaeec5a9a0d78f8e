"""Bi-CMCI (KAnoCLIP, section 2.4, equation 9): patches and text look at each other, one module a stage.

The paper names the ingredients: text self-attention, deformable self-attention over the patches (DAT, Xia et al.
2022), cross-attention in both directions. Their order and sizes are our reading; no feed-forward layers, pre-norm
residuals, parallel cross-attention.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DeformableSelfAttention(nn.Module):
    """Self-attention whose keys and values are sampled at learned offsets from a coarse grid (DAT).

    Args:
        width: d, of the tokens.
        heads: attention heads.
        groups: channel groups with offsets of their own.
        stride: patches between two sampled points.
        kernel: of the offset network's depthwise convolution.
    """

    def __init__(self, width: int, heads: int, groups: int, stride: int, kernel: int):
        super().__init__()
        self.heads, self.groups = heads, groups
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        channels = width // groups
        self.offset_conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels)
        self.offset_norm = nn.LayerNorm(channels)
        self.offset_out = nn.Linear(channels, 2, bias=False)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Attend.

        Args:
            x: (B, P, d) normalised patch tokens, row-major.
            grid: (h, w), P = h w.

        Returns:
            (B, P, d).
        """
        batch, _, width = x.shape
        q = self.query(x)  # (B, P, d)
        points = self.sampling_points(q, grid)  # (B g, h', w', 2) as (x, y) in -1..1
        channels = x.transpose(1, 2).reshape(batch * self.groups, width // self.groups, *grid)
        sampled = F.grid_sample(channels, points, mode="bilinear", align_corners=True)  # (B g, d/g, h', w')
        sampled = sampled.reshape(batch, width, -1).transpose(1, 2)  # (B, P', d)
        q, k, v = (
            t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (q, self.key(sampled), self.value(sampled))
        )
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, P, d / heads)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def sampling_points(self, q: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B g, h', w', 2) coarse grid points plus offsets, clamped to the image, as (x, y) in -1..1."""
        batch, _, width = q.shape
        q = q.transpose(1, 2).reshape(batch * self.groups, width // self.groups, *grid)
        hidden = self.offset_conv(q).permute(0, 2, 3, 1)  # (B g, h', w', d/g)
        offsets = self.offset_out(F.gelu(self.offset_norm(hidden)))
        rows, columns = (
            torch.linspace(0.5, size - 0.5, size, device=q.device) / size * 2 - 1 for size in hidden.shape[1:3]
        )
        reference = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)
        return (reference + offsets).clamp(-1, 1)


class BiCMCI(nn.Module):
    """One stage: patches of one tap and the two text vectors, to a map of anomaly probability.

    Args:
        vision_width: W, of the tower's tokens.
        text_width: C, of the text vectors.
        width: d, in which they meet.
        heads: of every attention.
        groups, stride, kernel: of the deformable self-attention.
        temperature: divides the cosine similarities of the map.
        in_clip_space: compare in CLIP's joint space, to which the fused tokens are added through projections that start
            at zero, so that training begins with CLIP's own map; otherwise compare the fused tokens themselves.
    """

    def __init__(
        self,
        vision_width: int,
        text_width: int,
        width: int,
        heads: int,
        groups: int,
        stride: int,
        kernel: int,
        temperature: float,
        in_clip_space: bool = False,
    ):
        super().__init__()
        self.temperature = temperature
        self.in_clip_space = in_clip_space
        self.vision_in = nn.Linear(vision_width, width)
        self.text_in = nn.Linear(text_width, width)
        norms = (nn.LayerNorm(width) for _ in range(4))
        self.text_norm, self.vision_norm, self.text_cross_norm, self.vision_cross_norm = norms
        self.text_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.vision_attention = DeformableSelfAttention(width, heads, groups, stride, kernel)
        self.text_to_vision = nn.MultiheadAttention(width, heads, batch_first=True)
        self.vision_to_text = nn.MultiheadAttention(width, heads, batch_first=True)
        if in_clip_space:
            self.vision_out, self.text_out = (nn.Linear(width, text_width) for _ in range(2))
            for parameter in (*self.vision_out.parameters(), *self.text_out.parameters()):
                nn.init.zeros_(parameter)

    def forward(self, patches: Tensor, joint: Tensor, text: Tensor, grid: tuple[int, int]) -> Tensor:
        """Fuse and compare.

        Args:
            patches: (B, P, W) tokens of a tap.
            joint: (B, P, C) the same as unit vectors of CLIP's joint space.
            text: (B, 2, C) unit vectors, normal then abnormal.
            grid: (h, w), P = h w.

        Returns:
            (B, h, w) probability of abnormal in 0..1.
        """
        f, t = self.fuse(patches, text, grid)
        if self.in_clip_space:
            f, t = joint + self.vision_out(f), text + self.text_out(t)  # (B, P, C), (B, 2, C)
        similarity = F.normalize(f, dim=-1) @ F.normalize(t, dim=-1).transpose(1, 2)  # (B, P, 2)
        return (similarity / self.temperature).softmax(-1)[..., 1].unflatten(1, grid)

    def fuse(self, patches: Tensor, text: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(B, P, d) patches and (B, 2, d) text that have looked at each other."""
        f = self.vision_in(patches)
        t = self.text_in(text)
        t = t + attend(self.text_attention, self.text_norm(t))
        f = f + self.vision_attention(self.vision_norm(f), grid)
        f_norm, t_norm = self.vision_cross_norm(f), self.text_cross_norm(t)
        f = f + attend(self.text_to_vision, f_norm, t_norm)  # patches ask the text
        t = t + attend(self.vision_to_text, t_norm, f_norm)  # the text asks the patches
        return f, t


def attend(attention: nn.MultiheadAttention, query: Tensor, source: Tensor | None = None) -> Tensor:
    """Attention of the query tokens to the source tokens, or to themselves: (B, L, d)."""
    source = query if source is None else source
    return attention(query, source, source, need_weights=False)[0]
