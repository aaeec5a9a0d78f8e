"""APRIL-GAN, zero-shot track (Chen et al. 2023, arXiv 2305.17382), also known as VAND after its challenge.

Learned: only one linear layer per tap, which projects raw patch tokens into the text space. The map is the mean over
the taps' maps against the text ensemble. The image score is CLIP's own. This follows the released code;
docs/methods/april_gan.md has the formulas and the differences.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kanoclip.augmentation import Mosaic
from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.methods.base import AnomalyOutput, Batch, Method, log_odds, per_class, register, two_way
from kanoclip.methods.layerwise import LayerwiseOptions, map_losses, mean_map
from kanoclip.methods.phases import Phase
from kanoclip.methods.states import levels, states, take
from kanoclip.prompts.ensemble import PromptEnsemble


class AprilGanOptions(LayerwiseOptions):
    """Options of APRIL-GAN. The released code trains 3 epochs on MVTec-AD and 15 on VisA."""

    learning_rate: float = Field(1e-3, gt=0, description="learning rate of Adam (released code)")
    mosaic: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability that a 2 x 2 mosaic of images of its class replaces a training image. The published "
        "code: 0.2 on MVTec-AD; such a training encodes its images again in each epoch",
    )


@register("april_gan")
class AprilGan(Method[AprilGanOptions]):
    """One linear layer per tap, trained with focal and dice loss."""

    trainable = True
    published = {"epochs": 3, "map_resolution": "image", "mosaic": 0.2, "mask_resize": "bilinear"}
    published_on = {"visa": {"epochs": 15, "mosaic": 0.0}}
    # the released code builds OpenAI's weights without their QuickGELU
    published_backbone = {"model": "ViT-L-14-336", "weights": "openai", "activation": "gelu", "image_size": 518}

    def __init__(self, backbone: Backbone, options: AprilGanOptions, seed: int):
        super().__init__(backbone, options, seed)
        self.text = PromptEnsemble(backbone, "april_gan")
        self.projections = tap_projections(len(backbone.quarters), backbone.width, backbone.joint_width)

    @classmethod
    def reads(cls, options: AprilGanOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the original stream at the four taps, and the class token."""
        return frozenset({Tap("cls", tower.layers), *(Tap("tokens", tap) for tap in tower.taps)})

    @classmethod
    def trains_on(cls, options: AprilGanOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the four taps, or nothing if images are augmented; the class token is not trained on."""
        return frozenset() if options.mosaic else frozenset(Tap("tokens", tap) for tap in tower.taps)

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score with the trained layers."""
        options, size = self.options, self.backbone.config.image_size
        text = per_class(batch.class_names, self.text)  # (B, 2, C)
        image = two_way(
            self.backbone.project(batch.features[Tap("cls", self.backbone.layers)]), text, options.temperature
        )  # (B,)
        maps = mean_map(self._log_odds(batch, text), options.map_resolution, size)  # (B, h, w) or (B, S, S)
        return AnomalyOutput(maps, image_score=image)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of the maps; the image score has no learnable parameters."""
        _, masks = batch.truth
        return map_losses(self._log_odds(batch, per_class(batch.class_names, self.text)), masks)

    def phases(self) -> list[Phase]:
        """Train all layers together."""
        layers = {"name": "layers", "params": list(self.projections.parameters()), "lr": self.options.learning_rate}
        augment = Mosaic(self.options.mosaic) if self.options.mosaic else None
        taps = frozenset(Tap("tokens", tap) for tap in self.backbone.quarters)
        return [self.options.phase(self.losses, [layers], augment, taps)]

    @classmethod
    def from_published(cls, files: Sequence[Any]) -> dict[str, Tensor]:
        """Translate the state of the authors' `trainable_linearlayer`."""
        (state,) = states(files, "trainable_linearlayer")
        learned = {}
        for level in range(max(1, levels(state, "fc.{}.weight"))):
            weight = learned[f"projections.{level}.weight"] = take(state, f"fc.{level}.weight", (None, None))
            learned[f"projections.{level}.bias"] = take(state, f"fc.{level}.bias", (weight.shape[0],))
        return learned

    def _log_odds(self, batch: Batch, text: Tensor) -> Tensor:
        """Return log-odds (B, K, h, w) of K taps."""
        projected = [
            F.normalize(layer(batch.features[Tap("tokens", tap)][:, 1:]), dim=-1)  # (B, P, C)
            for tap, layer in zip(self.backbone.quarters, self.projections, strict=True)
        ]
        patches = log_odds(torch.stack(projected, dim=1), text, self.options.temperature)  # (B, K, P)
        return patches.unflatten(2, self.backbone.grid)


def tap_projections(taps: int, width: int, joint_width: int) -> nn.ModuleList:
    """Return one linear layer with bias per tap, from the tower's tokens (W) to the joint space (C)."""
    return nn.ModuleList(nn.Linear(width, joint_width) for _ in range(taps))
