"""MVFA-AD (Huang et al., CVPR 2024, arXiv 2403.12570): adapters between the blocks of the image tower.

Learned: two adapters after each of four blocks, one for segmentation and one for detection; 12,582,912 parameters on
ViT-L/14. Each returns tokens that are compared with the text, and tokens that are mixed into the residual stream and
so reach the following blocks. The method reads the tokens before the first adapters and runs the rest of the tower
itself. This follows the released code; docs/methods/mvfa.md has the formulas.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.methods.base import AnomalyOutput, Batch, Method, log_odds, per_class, register
from kanoclip.methods.layerwise import LayerwiseOptions, map_losses, mean_map
from kanoclip.methods.phases import Phase
from kanoclip.methods.states import levels, states, take
from kanoclip.prompts.ensemble import PromptEnsemble


class MvfaOptions(LayerwiseOptions):
    """Options of MVFA-AD."""

    residual: float = Field(
        0.1, ge=0, le=0.5, description="share of each of the two adapters in the residual stream (released code)"
    )
    learning_rate: float = Field(1e-4, gt=0, description="learning rate of Adam (released code, zero-shot)")


@register("mvfa")
class Mvfa(Method[MvfaOptions]):
    """Residual adapters in the image tower, against APRIL-GAN's prompt ensemble."""

    trainable = True
    # the released code compares only the first image of a batch, hence batches of one; it chooses the epoch on the
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
        self.text = PromptEnsemble(backbone, "april_gan")
        self.segmentation, self.detection = (
            nn.ModuleList(Adapter(backbone.width, backbone.joint_width) for _ in backbone.quarters) for _ in range(2)
        )

    @classmethod
    def reads(cls, options: MvfaOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the tokens at the first adapters; the following blocks depend on the adapters."""
        return frozenset({Tap("tokens", tower.taps[0])})

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score with the trained adapters."""
        segmentation, detection = self._log_odds(batch)
        maps = mean_map(segmentation, self.options.map_resolution, self.backbone.config.image_size)
        image = detection.sigmoid().mean((1, 2))
        return AnomalyOutput(maps, image_score=image)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the focal and Dice losses of each level's map and the cross-entropy of its score, summed over levels.

        As in the released code, the cross-entropy applies a sigmoid to values that are probabilities already.
        """
        labels, masks = batch.truth  # (B,), (B, S, S)
        segmentation, detection = self._log_odds(batch)
        scores = detection.sigmoid().mean(2).unbind(1)  # K x (B,)
        of_scores = torch.stack([F.binary_cross_entropy_with_logits(score, labels) for score in scores]).sum()
        return {**map_losses(segmentation, masks), "detection": of_scores}

    def phases(self) -> list[Phase]:
        """Train the two branches; Adam treats them independently, like the released code's two optimisers."""
        branches = {"segmentation": self.segmentation, "detection": self.detection}
        groups = [
            {"name": name, "params": list(branch.parameters()), "lr": self.options.learning_rate}
            for name, branch in branches.items()
        ]
        return [self.options.phase(self.losses, groups)]

    @classmethod
    def from_published(cls, files: Sequence[Any]) -> dict[str, Tensor]:
        """Translate the states of the authors' `seg_adapters` and `det_adapters`."""
        learned = {}
        branches = zip(("segmentation", "detection"), states(files, "seg_adapters", "det_adapters"), strict=True)
        for branch, state in branches:
            for level in range(max(1, levels(state, "{}.fc1.0.weight"))):
                down = learned[f"{branch}.{level}.down.weight"] = take(state, f"{level}.fc1.0.weight", (None, None))
                up = take(state, f"{level}.fc2.0.weight", (down.shape[1], down.shape[0]))
                learned[f"{branch}.{level}.up.weight"] = up
        return learned

    def _log_odds(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return log-odds (B, K, h, w) of segmentation and (B, K, P) of detection, at K levels."""
        text = per_class(batch.class_names, self.text)  # (B, 2, C)
        branches = self._levels(batch.features[Tap("tokens", self.backbone.quarters[0])])
        segmentation, detection = (
            torch.stack([log_odds(tokens, text, self.options.temperature) for tokens in levels], dim=1)
            for levels in branches
        )
        return segmentation.unflatten(2, self.backbone.grid), detection

    def _levels(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Run the tower with the adapters' residuals and return their tokens for comparison at K levels.

        Args:
            x: (B, 1 + P, W) tokens after the block of the first adapters.

        Returns:
            Segmentation and detection tokens, each K x (B, P, C) unit vectors.
        """
        blocks = self.backbone.quarters
        share = self.options.residual
        compared: tuple[list[Tensor], list[Tensor]] = [], []

        def adapt(number: int, x: Tensor) -> Tensor:
            if number - 1 not in blocks:
                return x
            residuals = []
            for found, branch in zip(compared, (self.segmentation, self.detection), strict=True):
                tokens, residual = branch[blocks.index(number - 1)](x)
                found.append(F.normalize(tokens[:, 1:].float(), dim=-1))
                residuals.append(residual)
            return (1 - 2 * share) * x + share * (residuals[0] + residuals[1])

        self.backbone.tower.run(x, start=blocks[0], stop=blocks[-1], before_block=adapt)
        return compared


class Adapter(nn.Module):
    """A bottleneck as wide as the joint space, so that its activations can be compared with text.

    The up projection of the last level is never used; the published number of parameters includes it.

    Args:
        width: W, of the tower.
        joint_width: C.
    """

    def __init__(self, width: int, joint_width: int):
        super().__init__()
        self.down = nn.Linear(width, joint_width, bias=False)
        self.up = nn.Linear(joint_width, width, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, 1 + P, C) for the comparison and (B, 1 + P, W) for the residual stream."""
        compared = F.leaky_relu(self.down(x))
        return compared, F.leaky_relu(self.up(compared))
