"""Crane+ (Salehi et al., 2025, arXiv 2504.11055): Crane, with patch attention guided by a second tower.

D-attention mixes the values of CLIP's last block by the similarities of the patches in a second tower such as
DINOv2, named in the backbone: `towers: {dino: {model: vit_base_patch14_reg4_dinov2.lvd142m}}`. docs/methods/crane.md
has the formulas.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kanoclip.backbones.attention import mix, query_key, similarity_weights
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.backbones.tower import Tower
from kanoclip.methods.base import Batch, register
from kanoclip.methods.crane import PUBLISHED_BACKBONE, Crane, CraneOptions


class CranePlusOptions(CraneOptions):
    """Options of Crane+."""

    second_tower: str = Field("dino", description="name of the second tower in the backbone's `towers`")
    second_block: int = Field(
        12, gt=0, description="block of the second tower whose patches are compared: the last of a ViT-B"
    )
    sharpness: float = Field(3.0, gt=0, description="multiplies the similarities of D-attention (released code)")
    offset: float = Field(
        1.2, gt=0, description="a patch attends to those more similar than this times the image's mean (released code)"
    )
    d_attn_input: Literal["block", "after_attention"] = Field(
        "block",
        description="what values are computed from. block: the input of CLIP's last block; after_attention: that plus "
        "the block's own attention, as the released code computes by a change in place",
    )


@register("crane_plus")
class CranePlus(Crane):
    """Crane with D-attention, which needs a second tower."""

    Options = CranePlusOptions
    options: CranePlusOptions
    published = {"context_in_scoring": False, "d_attn_input": "after_attention", "mask_resize": "bilinear"}
    published_backbone = {
        **PUBLISHED_BACKBONE,
        "towers": {"dino": {"model": "vit_base_patch14_reg4_dinov2.lvd142m", "weights": "pretrained"}},
    }

    @classmethod
    def reads(cls, options: CraneOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return what Crane reads, the input of the last block, and the patches of the second tower."""
        assert isinstance(options, CranePlusOptions)
        second = Tap("tokens", options.second_block, options.second_tower)
        return super().reads(options, tower) | {Tap("tokens", tower.layers - 1), second}

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        image, patches = super()._features(batch)
        similar = self.backbone.project(self._d_attn(batch))[:, None]  # (B, 1, P, C)
        return image, torch.cat([patches, similar], dim=1)

    @torch.no_grad()
    def _d_attn(self, batch: Batch) -> Tensor:
        """Return the update (B, P, W) of the last block for patches with the attention of the second tower."""
        options, tower, last = self.options, self.backbone.tower, self.backbone.layers
        second = self.backbone.towers[options.second_tower]
        assert isinstance(second, Tower)
        tokens = batch.features[Tap("tokens", options.second_block, options.second_tower)]
        features = resample(second.project(tokens[:, 1:]), second.grid, self.backbone.grid)
        weights = similarity_weights(features, options.sharpness, options.offset)

        def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return torch.cat([v[:, :, :1], mix(weights, v[:, :, 1:])], dim=2)  # the class token's row is not used

        x = batch.features[Tap("tokens", last - 1)]
        if options.d_attn_input == "after_attention":
            x = x + tower.attend(last, x, query_key)
        return tower.attend(last, x, attention)[:, 1:]


def resample(features: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Interpolate patch features to another grid bilinearly: (B, h w, C) to (B, h' w', C) unit vectors.

    Args:
        features: unit vectors, row-major.
        grid: (h, w).
        target: (h', w'); with the same grid nothing changes.
    """
    if grid == target:
        return features
    maps = features.transpose(1, 2).unflatten(2, grid)  # (B, C, h, w)
    maps = F.interpolate(maps, target, mode="bilinear", antialias=True)
    return F.normalize(maps.flatten(2).transpose(1, 2), dim=-1)
