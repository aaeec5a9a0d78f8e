"""The image tower of open_clip's own ViTs (OpenAI, LAION, DataComp, MetaCLIP, DFN ...) as a `Tower`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kanoclip.backbones.taps import CLIP
from kanoclip.backbones.tower import Attention, Tower


class OpenClipTower(Tower):
    """A `VisionTransformer` of open_clip with a class token.

    Args:
        visual: open_clip's image tower.
        vv_start: first block of the local streams, counted from 1.
    """

    visual: Any  # open_clip's classes have no types
    blocks: Any

    def __init__(self, visual: Any, vv_start: int = 1):
        super().__init__()
        self.visual, self.vv_start = visual, vv_start
        self.name = CLIP
        self.blocks = visual.transformer.resblocks
        self.layers = len(self.blocks)
        self.width = visual.ln_post.normalized_shape[0]
        self.joint_width = visual.output_dim
        self.grid, self.image_size = tuple(visual.grid_size), visual.image_size[0]
        self.mean, self.std = tuple(visual.image_mean), tuple(visual.image_std)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.visual.class_embedding.device

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the input of the first block: (B, 3, S, S) to (B, 1 + P, W), the class token first."""
        return self.visual._embeds(pixels)

    def block(self, number: int, x: Tensor) -> Tensor:
        """Return the output of block `number`, counted from 1: (B, L, W) to the same shape."""
        return self.blocks[number - 1](x)

    def attend(self, number: int, x: Tensor, attention: Attention) -> Tensor:
        """Return the residual update of a block's attention with another attention function; see `Tower`."""
        block = self.blocks[number - 1]
        trained = block.attn
        batch, length, width = x.shape
        qkv = F.linear(block.ln_1(x), trained.in_proj_weight, trained.in_proj_bias)  # (B, L, 3 W)
        q, k, v = qkv.view(batch, length, 3, trained.num_heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, L, d)
        mixed = attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        return block.ls_1(trained.out_proj(mixed))

    def mlp(self, number: int, x: Tensor) -> Tensor:
        """Return the residual update of a block's MLP; see `Tower`."""
        block = self.blocks[number - 1]
        return block.ls_2(block.mlp(block.ln_2(x)))

    def final_norm(self, tokens: Tensor) -> Tensor:
        """Return tokens after ln_post: (..., W) to the same shape."""
        return self.visual.ln_post(tokens)

    def project(self, tokens: Tensor, norm: bool = True, unit: bool = True) -> Tensor:
        """Project tokens of the residual stream to the joint space: (..., W) to (..., C)."""
        if norm:
            tokens = self.final_norm(tokens)
        if self.visual.proj is not None:
            tokens = tokens @ self.visual.proj
        return F.normalize(tokens, dim=-1) if unit else tokens
