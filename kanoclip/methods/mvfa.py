"""MVFA-AD (Huang et al., CVPR 2024, arXiv 2403.12570): adapters between the blocks of the image tower.

Learned: after each of four blocks, two adapters, one for segmentation and one for detection; 12,582,912 parameters on
ViT-L/14. Each makes a token that is compared with the text, and one that is mixed into the residual stream, so that the
blocks which follow see it. The blocks before the first adapters come from the cache, the rest of the tower runs here.
The released code is followed; docs/methods/mvfa.md has the formulas.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.streams import Streams
from kanoclip.config import Strict
from kanoclip.methods.base import AnomalyOutput, Batch, Method, log_odds, per_class, register
from kanoclip.methods.layerwise import LayerwiseOptions, map_losses, mean_map
from kanoclip.prompts.ensemble import PromptEnsemble


class MvfaOptions(LayerwiseOptions):
    """Options of MVFA-AD."""

    residual: float = Field(
        0.1, ge=0, le=0.5, description="share of each of the two adapters in the residual stream (released code)"
    )
    learning_rate: float = Field(1e-4, gt=0, description="Adam; the released code's for zero-shot")


@register("mvfa")
class Mvfa(Method):
    """Residual adapters in the image tower, against APRIL-GAN's prompt ensemble."""

    Options = MvfaOptions
    trainable = True
    stochastic = True
    # the released code compares the first image of a batch only, so its batches are of one; its epoch was chosen on the
    # target, which we do not follow
    published = {"epochs": 50, "batch_size": 1, "map_resolution": "image"}
    published_backbone = {
        "model": "ViT-L-14-336",
        "weights": "openai",
        "activation": "gelu",  # OpenAI's weights without their QuickGELU, as the released code builds them
        "image_size": 240,
        "partial_patches": "cut",
        "normalisation": "none",
    }

    def __init__(self, backbone: Backbone, options: MvfaOptions, seed: int):
        super().__init__(backbone, options, seed)
        self.options = options
        self.text = PromptEnsemble(backbone.encode_text, "april_gan")
        self.segmentation, self.detection = (
            nn.ModuleDict({str(tap): Adapter(backbone.width, backbone.joint_width) for tap in backbone.quarters})
            for _ in range(2)
        )

    @classmethod
    def streams(cls, options: Strict, taps: tuple[int, ...], layers: int) -> Streams:
        """All tokens of the original stream where the first adapters are; what follows depends on them."""
        return Streams(original=taps[:1])

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score with the trained adapters."""
        segmentation, detection = self._log_odds(batch)
        maps = mean_map(segmentation, self.options.map_resolution, self.backbone.config.image_size)
        image = detection.sigmoid().mean((1, 2))
        return AnomalyOutput(maps, image_probability=image, map_score=maps.amax((1, 2)), image_score=image)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Focal and dice loss of each level's map at the image's pixels, cross-entropy of its score; sums of levels.

        The cross-entropy takes the sigmoid of what is a probability already: the released code does.
        """
        assert batch.labels is not None and batch.masks is not None
        segmentation, detection = self._log_odds(batch)
        scores = detection.sigmoid().mean(2).unbind(1)  # K x (B,)
        labels = batch.labels.float()  # (B,)
        of_scores = torch.stack([F.binary_cross_entropy_with_logits(score, labels) for score in scores]).sum()
        return {**map_losses(segmentation, batch.masks), "detection": of_scores}

    def parameter_groups(self) -> list[dict[str, object]]:
        """The two branches."""
        branches = {"segmentation": self.segmentation, "detection": self.detection}
        return [
            {"name": name, "params": list(branch.parameters()), "lr": self.options.learning_rate}
            for name, branch in branches.items()
        ]

    def _log_odds(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, K, h, w) of the segmentation branch and (B, K, P) of the detection branch, at K levels."""
        text = per_class(batch.class_names, self.text)  # (B, 2, C)
        branches = zip(*self._levels(batch.features.original[self.backbone.quarters[0]]), strict=True)
        segmentation, detection = (
            torch.stack([log_odds(tokens, text, self.options.temperature) for tokens in levels], dim=1)
            for levels in branches
        )
        return segmentation.unflatten(2, self.backbone.grid), detection

    def _levels(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """What the two adapters of each level have for comparison, while the tower runs with their residuals.

        Args:
            x: (B, 1 + P, W) tokens after the block of the first adapters.

        Yields:
            2 x (B, P, C) unit vectors: segmentation, detection.
        """
        first, *_, last = self.backbone.quarters
        share = self.options.residual
        for number in range(first, last + 1):
            if number > first:
                x = self.backbone.blocks[number - 1](x)
            if number in self.backbone.quarters:
                segmentation, to_segment = self.segmentation[str(number)](x)
                detection, to_detect = self.detection[str(number)](x)
                x = (1 - 2 * share) * x + share * (to_segment + to_detect)
                yield F.normalize(segmentation[:, 1:], dim=-1), F.normalize(detection[:, 1:], dim=-1)


class Adapter(nn.Module):
    """A bottleneck as wide as the joint space, so that what is in it can be compared with text.

    The way back of the last level is never used; the published number of parameters counts it.

    Args:
        width: W, of the tower.
        joint_width: C.
    """

    def __init__(self, width: int, joint_width: int):
        super().__init__()
        self.down = nn.Linear(width, joint_width, bias=False)
        self.up = nn.Linear(joint_width, width, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1 + P, W) to (B, 1 + P, C) for comparison and (B, 1 + P, W) for the residual stream."""
        compared = F.leaky_relu(self.down(x))
        return compared, F.leaky_relu(self.up(compared))
