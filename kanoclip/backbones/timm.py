"""A ViT of timm as a `Tower`: EVA-CLIP's and MobileCLIP's image towers, and second towers such as DINOv2."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import AttentionRope, apply_rot_embed_cat
from timm.layers.attention import Attention as VitAttention
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor

from kanoclip.backbones.tower import Attention, Tower

TRUNKS = (VisionTransformer, Eva)
BLOCKS = (Block, EvaBlock, EvaBlockPostNorm)
ATTENTIONS = (VitAttention, EvaAttention, AttentionRope)


def unsupported_trunk(trunk: Any) -> str:
    """Return why a model of timm cannot be a tower, in a few words; "" if it can."""
    if type(trunk) not in TRUNKS:
        return f"it is a {type(trunk).__name__}, not timm's VisionTransformer or Eva"
    if trunk.cls_token is None:
        return "it has no class token"
    other = {type(part).__name__ for block in trunk.blocks for part in _unknown_parts(block)}
    return f"its blocks are made of {', '.join(sorted(other))}" if other else ""


class TimmTower(Tower):
    """A `VisionTransformer` or `Eva` of timm with a class token, as `unsupported_trunk` allows it.

    Args:
        trunk: timm's model in evaluation mode, at its final image size. Its head leads to the joint space.
        name: as in `Tap.tower`.
        mean: mean of the three channels of RGB in 0..1.
        std: standard deviation of the three channels.
        vv_start: first block of the local streams, counted from 1.
    """

    trunk: Any  # timm's classes have few types
    blocks: Any
    rope: Tensor | None

    def __init__(
        self,
        trunk: Any,
        name: str,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        vv_start: int = 1,
    ):
        super().__init__()
        self.trunk, self.name, self.mean, self.std, self.vv_start = trunk, name, mean, std, vv_start
        self.blocks = trunk.blocks
        self.layers, self.width, self.prefix = len(trunk.blocks), trunk.embed_dim, trunk.num_prefix_tokens
        self.joint_width = trunk.num_classes or trunk.embed_dim
        self.grid, self.image_size = tuple(trunk.patch_embed.grid_size), trunk.patch_embed.img_size[0]
        self.rotary = getattr(trunk, "rope", None) is not None
        self.register_buffer("rope", self._rotation(), persistent=False)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.trunk.cls_token.device

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the input of the first block: (B, 3, S, S) to (B, prefix + P, W), with the class token first."""
        x = self.trunk._pos_embed(self.trunk.patch_embed(pixels))
        return self.trunk.norm_pre(x[0] if isinstance(x, tuple) else x)

    def block(self, number: int, x: Tensor) -> Tensor:
        """Return the output of block `number`, counted from 1: (B, L, W) to the same shape."""
        block = self.blocks[number - 1]
        return block(x, rope=self._rope_of(number)) if self.rotary else block(x)

    def attend(self, number: int, x: Tensor, attention: Attention) -> Tensor:
        """Return the residual update of a block's attention with another attention function; see `Tower`.

        Queries and keys are normalised and rotated as in the block's training, values are not.
        """
        block, rope = self.blocks[number - 1], self._rope_of(number)
        if isinstance(block, EvaBlockPostNorm):
            return block.norm1(_attend(block.attn, x, rope, attention))
        added = _attend(block.attn, block.norm1(x), rope, attention)
        if isinstance(block, EvaBlock):
            return added if block.gamma_1 is None else block.gamma_1 * added
        return block.ls1(added)

    def mlp(self, number: int, x: Tensor) -> Tensor:
        """Return the residual update of a block's MLP; see `Tower`."""
        block = self.blocks[number - 1]
        if isinstance(block, EvaBlockPostNorm):
            return block.norm2(block.mlp(x))
        added = block.mlp(block.norm2(x))
        if isinstance(block, EvaBlock):
            return added if block.gamma_2 is None else block.gamma_2 * added
        return block.ls2(added)

    def final_norm(self, tokens: Tensor) -> Tensor:
        """Return tokens after the trunk's final layer norms: (..., W) to the same shape."""
        return self.trunk.fc_norm(self.trunk.norm(tokens))

    def project(self, tokens: Tensor, norm: bool = True, unit: bool = True) -> Tensor:
        """Project tokens (..., W) to vectors (..., C), in the joint space if the trunk has a head."""
        if norm:
            tokens = self.final_norm(tokens)
        projected = self.trunk.head(tokens)
        return F.normalize(projected, dim=-1) if unit else projected

    def _rotation(self) -> Tensor | None:
        """Return the rotary position table of the grid, shared or per block; None without rotary positions."""
        if not self.rotary:
            return None
        with torch.no_grad():
            patches = self.trunk.cls_token.new_zeros(1, *self.grid, self.width)
            return self.trunk._pos_embed(patches if self.trunk.dynamic_img_size else patches.flatten(1, 2))[1]

    def _rope_of(self, number: int) -> Tensor | None:
        return self.rope[number - 1] if self.rope is not None and self.trunk.rope_mixed else self.rope


def _unknown_parts(block: Any) -> list[Any]:
    if type(block) not in BLOCKS:
        return [block]
    return [] if type(block.attn) in ATTENTIONS else [block.attn]


def _attend(trained: Any, x: Tensor, rope: Tensor | None, attention: Attention) -> Tensor:
    """Run the attention module of a block with another attention function; (B, L, W) to the same shape."""
    batch, length, _ = x.shape
    q, k, v = (part.unflatten(-1, (-1, trained.head_dim)).transpose(1, 2) for part in _projections(trained, x))
    q, k = trained.q_norm(q), trained.k_norm(k)
    if rope is not None:
        q, k = (_rotated(trained, part, rope).type_as(v) for part in (q, k))
    groups = trained.num_heads // k.shape[1]  # of query heads that share keys and values
    k, v = (part.repeat_interleave(groups, dim=1) for part in (k, v))
    mixed = trained.norm(attention(q, k, v).transpose(1, 2).reshape(batch, length, -1))
    if trained.gate is not None:
        mixed = mixed * trained.gate(x).sigmoid()
    return trained.proj(mixed)


def _projections(trained: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values of all heads, each (B, L, heads d)."""
    if trained.qkv is None:
        return trained.q_proj(x), trained.k_proj(x), trained.v_proj(x)
    if getattr(trained, "q_bias", None) is None:
        joined = trained.qkv(x)
    else:  # EVA has no bias of the keys
        bias = torch.cat([trained.q_bias, trained.k_bias, trained.v_bias])
        joined = F.linear(x, trained.qkv.weight, bias)
    q, k, v = joined.chunk(3, dim=-1)
    return q, k, v


def _rotated(trained: Any, part: Tensor, rope: Tensor) -> Tensor:
    """Rotate queries or keys (B, heads, L, d) by their position; class token and registers have none."""
    prefix = trained.num_prefix_tokens
    turned = apply_rot_embed_cat(part[:, :, prefix:], rope, half=trained.rotate_half)
    return torch.cat([part[:, :, :prefix], turned], dim=2)
