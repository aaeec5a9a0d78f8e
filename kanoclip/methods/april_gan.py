"""APRIL-GAN, zero-shot track (Chen et al. 2023, arXiv 2305.17382), also known as VAND after its challenge.

Learned: one linear layer a tap, which takes raw patch tokens to the space of the text; nothing else. The map is the
mean over the taps of what each says against the text ensemble. The image score is CLIP's own. The published code is
followed; docs/methods/april_gan.md has the formulas and what differs.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.streams import Streams
from kanoclip.config import Strict
from kanoclip.methods.base import AnomalyOutput, Batch, Method, log_odds, per_class, register, two_way
from kanoclip.methods.layerwise import LayerwiseOptions, map_losses, mean_map
from kanoclip.prompts.ensemble import PromptEnsemble


class AprilGanOptions(LayerwiseOptions):
    """Options of APRIL-GAN. The published code trains 3 epochs on MVTec-AD and 15 on VisA."""

    learning_rate: float = Field(1e-3, gt=0, description="Adam; the published code's")


@register("april_gan")
class AprilGan(Method):
    """A linear layer a tap, trained with focal and dice loss."""

    Options = AprilGanOptions
    trainable = True
    stochastic = True
    published = {"epochs": 3, "map_resolution": "image"}
    # the published code builds OpenAI's weights without their QuickGELU
    published_backbone = {"model": "ViT-L-14-336", "weights": "openai", "activation": "gelu", "image_size": 518}

    def __init__(self, backbone: Backbone, options: AprilGanOptions, seed: int):
        super().__init__(backbone, options, seed)
        self.options = options
        self.text = PromptEnsemble(backbone.encode_text, "april_gan")
        self.projections = tap_projections(backbone.quarters, backbone.width, backbone.joint_width)

    @classmethod
    def streams(cls, options: Strict, taps: tuple[int, ...], layers: int) -> Streams:
        """The original stream at the four taps."""
        return Streams(original=taps)

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score with the trained layers."""
        options, size = self.options, self.backbone.config.image_size
        text = per_class(batch.class_names, self.text)  # (B, 2, C)
        image = two_way(self.backbone.project(batch.features.cls), text, options.temperature)  # (B,)
        maps = mean_map(self._log_odds(batch, text), options.map_resolution, size)  # (B, h, w) or (B, S, S)
        return AnomalyOutput(maps, image_probability=image, map_score=maps.amax((1, 2)), image_score=image)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Of the maps; the image score has nothing to learn."""
        assert batch.masks is not None
        return map_losses(self._log_odds(batch, per_class(batch.class_names, self.text)), batch.masks)

    def parameter_groups(self) -> list[dict[str, object]]:
        """All layers alike."""
        return [{"name": "layers", "params": list(self.projections.parameters()), "lr": self.options.learning_rate}]

    def _log_odds(self, batch: Batch, text: Tensor) -> Tensor:
        """(B, K, h, w) of K taps."""
        projected = [
            F.normalize(layer(batch.features.original[int(tap)][:, 1:]), dim=-1)  # (B, P, C)
            for tap, layer in self.projections.items()
        ]
        patches = log_odds(torch.stack(projected, dim=1), text, self.options.temperature)  # (B, K, P)
        return patches.unflatten(2, self.backbone.grid)


def tap_projections(taps: tuple[int, ...], width: int, joint_width: int) -> nn.ModuleDict:
    """One linear layer with bias a tap, from the tower's tokens (W) to the joint space (C)."""
    return nn.ModuleDict({str(tap): nn.Linear(width, joint_width) for tap in taps})
