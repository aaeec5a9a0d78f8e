"""Bi-CMCI (KAnoCLIP, section 2.4, equation 9): patches and text attend to each other, one module per stage.

The paper names the components: text self-attention, deformable self-attention over the patches, cross-attention in
both directions. It does not give their order and sizes; we follow GroundingDINO's feature enhancer, which has the same.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kanoclip.methods.kanoclip_paper.attention import (
    Attention,
    CrossAttention,
    DeformableSelfAttention,
    SharedSimilarity,
    TwoAttentions,
)
from kanoclip.methods.kanoclip_paper.options import KAnoCLIPOptions

CROSS_ATTENTIONS = {"two": TwoAttentions, "shared": SharedSimilarity}
EXPANSION = 4  # of the feed-forward layer, as in most transformers


class BiCMCI(nn.Module):
    """One stage, which fuses the patches of a tap with the two text vectors and returns their similarities.

    Args:
        options: the width, the heads and the enabled layers.
        vision_width: W, of the patch tokens.
        text_width: C, of the text vectors.
        grid: (h, w) of the patches.
    """

    def __init__(self, options: KAnoCLIPOptions, vision_width: int, text_width: int, grid: tuple[int, int]):
        super().__init__()
        d, heads = options.width, options.heads
        self.vision_in, self.text_in = nn.Linear(vision_width, d), nn.Linear(text_width, d)
        self.text_attention = Residual(d, Attention(d, heads)) if options.text_attention else nn.Identity()
        self.patch_attention = _patch_attention(options, grid)
        self.cross_attention = CrossAttention(
            d, CROSS_ATTENTIONS[options.cross_attention](d, heads), options.layer_scale
        )
        self.vision_feed_forward = _feed_forward(d) if options.feed_forward else nn.Identity()
        self.text_feed_forward = _feed_forward(d) if options.feed_forward else nn.Identity()
        self.in_clip_space = options.output_space == "clip"
        if self.in_clip_space:  # these projections start at zero, so that training starts from CLIP's own map
            self.vision_out, self.text_out = (nn.Linear(d, text_width) for _ in range(2))
            for parameter in (*self.vision_out.parameters(), *self.text_out.parameters()):
                nn.init.zeros_(parameter)

    def forward(self, patches: Tensor, text: Tensor, joint: Tensor | None = None) -> Tensor:
        """Fuse patches and text, and compare them.

        Args:
            patches: (B, P, W) tokens of a tap.
            text: (B, 2, C) unit vectors, normal then abnormal.
            joint: (B, P, C) unit vectors of the patches in CLIP's joint space, if that is where they are compared.

        Returns:
            (B, P, 2) cosine similarities in -1..1, normal then abnormal.
        """
        f = self.patch_attention(self.vision_in(patches))  # (B, P, d)
        t = self.text_attention(self.text_in(text))  # (B, 2, d)
        f, t = self.cross_attention(f, t)
        f, t = self.vision_feed_forward(f), self.text_feed_forward(t)
        if self.in_clip_space:
            assert joint is not None
            f, t = joint + self.vision_out(f), text + self.text_out(t)  # (B, P, C), (B, 2, C)
        return cosines(f, t)


class Residual(nn.Module):
    """x + inner(LN(x))."""

    def __init__(self, width: int, inner: nn.Module):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, L, d) to (B, L, d)."""
        return x + self.inner(self.norm(x))


def cosines(features: Tensor, text: Tensor) -> Tensor:
    """Return cosine similarities (B, L, 2) of (B, L, C) features with (B, 2, C) text vectors."""
    return F.normalize(features, dim=-1) @ F.normalize(text, dim=-1).transpose(1, 2)


def _patch_attention(options: KAnoCLIPOptions, grid: tuple[int, int]) -> nn.Module:
    d, heads = options.width, options.heads
    if options.patch_attention == "none":
        return nn.Identity()
    if options.patch_attention == "full":
        return Residual(d, Attention(d, heads))
    groups, stride, kernel = options.deform_groups, options.deform_stride, options.deform_kernel
    return Residual(d, DeformableSelfAttention(d, heads, grid, groups, stride, kernel, options.deform_range))


def _feed_forward(width: int) -> nn.Module:
    return Residual(
        width, nn.Sequential(nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width))
    )
