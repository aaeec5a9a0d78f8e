"""SC-CLIP (Bai et al., 2024, arXiv 2411.15869) as a feature extractor under CLIP-AC's prompts; nothing is trained.

Its paper is about segmenting natural images, so this row is our extension. The features have their own kind of tap, in
kanoclip/backbones/calibrated.py. Formulas: docs/methods/sc_clip.md.
"""

from pydantic import Field

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.config import Strict
from kanoclip.methods.base import AnomalyOutput, Batch, Method, per_class, register, two_way
from kanoclip.prompts.ensemble import PromptEnsemble


class ScClipOptions(Strict):
    """Options of SC-CLIP."""

    guide: int | None = Field(
        None,
        gt=0,
        description="block whose patch similarities guide the last attention. null: two thirds of the tower, as the "
        "released code's 8 of 12",
    )
    temperature: float = Field(0.025, gt=0, description="divides the cosine similarities (released code: times 40)")


@register("sc_clip")
class ScClip(Method[ScClipOptions]):
    """CLIP-AC's prompts on SC-CLIP's patch tokens."""

    published_backbone = {"model": "ViT-B-16-quickgelu", "weights": "openai", "image_size": 224}

    def __init__(self, backbone: Backbone, options: ScClipOptions, seed: int):
        super().__init__(backbone, options, seed)
        self.text = PromptEnsemble(backbone, "clip_ac")

    @classmethod
    def reads(cls, options: ScClipOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the calibrated tokens."""
        return frozenset({_tap(options, tower)})

    @classmethod
    def marks(cls, options: ScClipOptions) -> frozenset[str]:
        """Return "extension", since its paper is about segmentation."""
        return frozenset({"extension"})

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Compare CLIP's class token and the calibrated patches with the two text vectors."""
        text = per_class(batch.class_names, self.text)  # (B, 2, C)
        tokens = self.backbone.project(batch.features[_tap(self.options, self.backbone.shape)])  # (B, 1 + P, C)
        abnormal = two_way(tokens, text, self.options.temperature)  # (B, 1 + P)
        return AnomalyOutput(abnormal[:, 1:].unflatten(1, self.backbone.grid), image_score=abnormal[:, 0])


def _tap(options: ScClipOptions, tower: TowerShape) -> Tap:
    return Tap("calibrated", options.guide or max(1, round(tower.layers * 2 / 3)))
