"""APRIL-GAN, zero-shot track (Chen et al. 2023, arXiv 2305.17382), also known as VAND after its challenge.

Learned: one linear layer a tap, which takes raw patch tokens to the space of the text; nothing else. The map is the
mean over the taps of what each says against the text ensemble. The image score is CLIP's own. The published code is
followed; docs/methods/april_gan.md has the formulas and what differs.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.streams import Streams
from kanoclip.config import Strict
from kanoclip.losses import dice, focal
from kanoclip.methods.base import AnomalyOutput, Batch, Method, TrainingOptions, per_class, register, two_way
from kanoclip.prompts.ensemble import PromptEnsemble

LABEL_SMOOTHING = 1e-5  # of the focal loss, in the published code


class AprilGanOptions(TrainingOptions):
    """Options of APRIL-GAN. The published code trains 3 epochs on MVTec-AD and 15 on VisA."""

    learning_rate: float = Field(1e-3, gt=0, description="Adam; the published code's")
    temperature: float = Field(
        0.01, gt=0, description="divides the cosine similarities; the published code multiplies by 100"
    )
    map_resolution: Literal["grid", "image"] = Field(
        "grid",
        description="where softmax makes logits probabilities: at the patches, and the evaluation upsamples these as "
        "every method's; or, as the published code, at the image's pixels after bilinear upsampling with aligned "
        "corners, which writes maps of the image's size",
    )


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
        text = per_class(batch.class_names, self.text)  # (B, 2, C)
        image = two_way(self.backbone.project(batch.features.cls), text, self.options.temperature)  # (B,)
        logits = self._logits(batch, text)  # (B, K, h, w)
        if self.options.map_resolution == "image":
            logits = self._at_pixels(logits)  # (B, K, S, S)
        maps = logits.sigmoid().mean(1)
        return AnomalyOutput(maps, image_probability=image, map_score=maps.amax((1, 2)), image_score=image)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Focal and dice loss of every tap's map at the image's pixels, summed over the taps."""
        assert batch.masks is not None
        masks = batch.masks.float()  # (B, S, S)
        logits = self._logits(batch, per_class(batch.class_names, self.text))
        maps = self._at_pixels(logits).sigmoid().unbind(1)  # K x (B, S, S)
        return {
            "focal": torch.stack([focal(of_tap, masks, smoothing=LABEL_SMOOTHING) for of_tap in maps]).sum(),
            "dice": torch.stack([dice(of_tap, masks) for of_tap in maps]).sum(),
        }

    def parameter_groups(self) -> list[dict[str, object]]:
        """All layers alike."""
        return [{"params": list(self.projections.parameters()), "lr": self.options.learning_rate}]

    def _logits(self, batch: Batch, text: Tensor) -> Tensor:
        """(B, K, h, w), K taps: abnormal minus normal logit, whose sigmoid is the two-way softmax."""
        difference = (text[:, 1] - text[:, 0])[:, :, None] / self.options.temperature  # (B, C, 1)
        logits = []
        for tap, layer in self.projections.items():
            projected = F.normalize(layer(batch.features.original[int(tap)][:, 1:]), dim=-1)  # (B, P, C)
            logits.append((projected @ difference)[..., 0].unflatten(1, self.backbone.grid))
        return torch.stack(logits, dim=1)

    def _at_pixels(self, logits: Tensor) -> Tensor:
        """(B, K, h, w) to (B, K, S, S): logits are upsampled, not probabilities, and corners aligned, as published."""
        size = self.backbone.config.image_size
        return F.interpolate(logits, (size, size), mode="bilinear", align_corners=True)


def tap_projections(taps: tuple[int, ...], width: int, joint_width: int) -> nn.ModuleDict:
    """One linear layer with bias a tap, from the tower's tokens (W) to the joint space (C)."""
    return nn.ModuleDict({str(tap): nn.Linear(width, joint_width) for tap in taps})
