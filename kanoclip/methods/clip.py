"""CLIP zero-shot (Radford et al. 2021) as the simplest anomaly detector: two prompts, no training.

Image score: the class token against "a photo of a normal X" and "a photo of an anomalous X". Map: the same with the
patch tokens of the last block. CLIP's patch similarities are known to be inverted (CLIP Surgery: high for the
background), so pixel AUROC below 50 % is expected on most datasets. Formulas: docs/methods/clip.md.
"""

from typing import ClassVar

from pydantic import Field

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.config import Strict
from kanoclip.methods.base import AnomalyOutput, Batch, Method, per_class, register, two_way
from kanoclip.prompts.ensemble import PromptEnsemble


class ClipOptions(Strict):
    """Options of CLIP and CLIP-AC."""

    temperature: float = Field(
        0.07, gt=0, description="divides the cosine similarities; a monotone change of the scores before upsampling"
    )


@register("clip")
class Clip(Method[ClipOptions]):
    """Two hand-written prompts on the original stream."""

    ensemble: ClassVar[str] = "clip"
    # never published as a detector: printed numbers are AnomalyCLIP's, made with its own loader
    published_backbone = {
        "model": "ViT-L-14-336-quickgelu",
        "weights": "openai",
        "image_size": 518,
        "position_resize": "bilinear",
    }

    def __init__(self, backbone: Backbone, options: ClipOptions, seed: int):
        super().__init__(backbone, options, seed)
        self.text = PromptEnsemble(backbone, self.ensemble)

    @classmethod
    def reads(cls, options: ClipOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the last block of the original stream."""
        return frozenset({Tap("tokens", tower.layers)})

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Compare class and patch tokens with the two text vectors."""
        text = per_class(batch.class_names, self.text)  # (B, 2, C)
        tokens = self.backbone.project(batch.features[Tap("tokens", self.backbone.layers)])  # (B, 1 + P, C)
        abnormal = two_way(tokens, text, self.options.temperature)  # (B, 1 + P)
        return AnomalyOutput(abnormal[:, 1:].unflatten(1, self.backbone.grid), image_score=abnormal[:, 0])
