"""AnoCLIP, later renamed AnoVL (Deng et al. 2023, arXiv 2308.15939): V-V patches, templates of a domain, no training.

Patches come from the V-V stream. The image score is the mean over 22 views of the image. An adapter may be fitted to
each image while it is scored (test-time adaptation). The released code is followed; docs/methods/anoclip.md has the
formulas.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.backbones.views import VIEWS
from kanoclip.config import Strict
from kanoclip.methods.adaptation import Draws, adapted
from kanoclip.methods.base import AnomalyOutput, Batch, Method, log_odds, per_class, register
from kanoclip.methods.layerwise import at_pixels
from kanoclip.prompts.ensemble import prompts

POLARITIES = ("normal", "abnormal")


class AnoClipOptions(Strict):
    """Options of AnoCLIP. Defaults: the released code's."""

    textures: tuple[str, ...] = Field(
        ("carpet", "leather", "grid", "tile", "wood"),
        description="class names that get the templates of textures; all others get those of manufactured objects",
    )
    views: int = Field(
        len(VIEWS),
        gt=0,
        le=len(VIEWS),
        description="views of the image whose scores are averaged, the image itself first; each is a forward pass of "
        "CLIP",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="divides the cosine similarities; the released code does not divide them",
    )
    adaptation_steps: int = Field(
        0,
        ge=0,
        description="test-time adaptation: steps of AdamW that fit an adapter of the patches to each image "
        "alone, before its map is made; 0 for none. The released script: 5",
    )
    adaptation_rate: float = Field(1e-3, gt=0, description="learning rate of these steps")
    map_resolution: Literal["grid", "image"] = Field(
        "grid",
        description="size of the maps. grid: the patch grid, and the evaluation upsamples them, as for every "
        "method; image: as the released code, upsampled with aligned corners",
    )


@register("anoclip")
class AnoClip(Method[AnoClipOptions]):
    """V-V patches against prompts of a domain, and the mean score of 22 views."""

    published = {"map_resolution": "image", "adaptation_steps": 5}
    published_backbone = {
        "model": "ViT-B-16-plus-240",
        "weights": "laion400m_e32",
        "image_size": 240,
        "vv_start": 1,  # all blocks
    }

    @classmethod
    def reads(cls, options: AnoClipOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the V-V stream after the last block, and the views."""
        return frozenset({Tap("vv", tower.layers), Tap("views", options.views)})

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score the image by its views, and its patches, after test-time adaptation if it is enabled."""
        options, backbone = self.options, self.backbone
        bank = per_class(batch.class_names, self._bank)  # (B, 2, M, C)
        text = F.normalize(bank.mean(2), dim=-1)  # (B, 2, C)
        views = log_odds(batch.features[Tap("views", options.views)], text, options.temperature)  # (B, V)
        patches = backbone.project(batch.features[Tap("vv", backbone.layers)][:, 1:], unit=False)  # (B, P, C)
        if options.adaptation_steps:
            patches = self._adapted(patches, text, F.normalize(bank.flatten(1, 2), dim=-1))
        scores = log_odds(F.normalize(patches, dim=-1), text, options.temperature).sigmoid()  # (B, P)
        maps = smoothed(scores.unflatten(1, backbone.grid))
        if options.map_resolution == "image":
            maps = at_pixels(maps[:, None], backbone.config.image_size)[:, 0]
        return AnomalyOutput(maps, image_score=views.sigmoid().mean(1))

    def _adapted(self, patches: Tensor, text: Tensor, bank: Tensor) -> Tensor:
        """Adapt the patches (B, P, C) of each image separately, with the same random draws; keep the shape."""
        options = self.options
        draws = Draws.of(bank.shape[1], patches.shape[1], patches.shape[2], options.adaptation_steps, patches.device)
        rows = zip(patches, text, bank, strict=True)
        return torch.stack([adapted(*row, draws, options.adaptation_rate, options.temperature) for row in rows])

    def _bank(self, class_names: Sequence[str]) -> Tensor:
        """Return unnormalised features (n, 2, M, C) of all prompts of n classes; each class is encoded once."""
        known, found = self.backbone.text_vectors, []
        for name in class_names:
            ensemble = "anoclip_texture" if name in self.options.textures else "anoclip_object"
            key = f"{ensemble}, every prompt", name
            if key not in known:
                texts = [prompts(ensemble, polarity, name) for polarity in POLARITIES]
                known[key] = torch.stack([self.backbone.encode_text(of_polarity) for of_polarity in texts])
            found.append(known[key])
        return torch.stack(found)


def smoothed(maps: Tensor) -> Tensor:
    """Average each patch of (B, h, w) with its 3 x 3 neighbours; edges are replicated."""
    return F.avg_pool2d(F.pad(maps[:, None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[:, 0]
