"""WinCLIP, zero-shot (Jeong et al. 2023, arXiv 2303.14814): a prompt ensemble and windows of two sizes, no training.

CLIP's patch tokens describe their own content poorly; the class token of a window that excludes everything else does
better. Every window of 2 x 2 and of 3 x 3 patches is scored; a patch gets the harmonic mean over the windows that cover
it, and then over the two sizes and the whole image. No code was published; the options and docs/methods/winclip.md
state the choices where re-implementations differ.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.config import Strict
from kanoclip.methods.base import AnomalyOutput, Batch, Method, per_class, register, two_way
from kanoclip.prompts.ensemble import PromptEnsemble


class WinClipOptions(Strict):
    """Options of WinCLIP."""

    windows: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (2, 3),
        min_length=1,
        description="sides of the windows in patches: the paper's small and mid scale. On a finer grid "
        "they cover less of the image, and there are more of them to encode",
    )
    temperature: float = Field(
        0.07,
        gt=0,
        description="divides the cosine similarities; the paper prints none; this is that of the re-implementation "
        "closest to its figures. It changes the maps, whose harmonic means are not linear",
    )


@register("winclip")
class WinClip(Method[WinClipOptions]):
    """Compositional prompt ensemble, window embeddings, harmonic aggregation."""

    published_backbone = {"model": "ViT-B-16-plus-240", "weights": "laion400m_e31", "image_size": 240}

    def __init__(self, backbone: Backbone, options: WinClipOptions, seed: int):
        super().__init__(backbone, options, seed)
        self.text = PromptEnsemble(backbone, "winclip")

    @classmethod
    def reads(cls, options: WinClipOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the class token and the embeddings of all windows."""
        return frozenset({Tap("cls", tower.layers), *(Tap("windows", side) for side in options.windows)})

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score the image by its class token, patches by the windows around them and the image."""
        temperature = self.options.temperature
        text = per_class(batch.class_names, self.text)  # (B, 2, C)
        image = two_way(
            self.backbone.project(batch.features[Tap("cls", self.backbone.layers)]), text, temperature
        )  # (B,)
        scales = [image[:, None, None].expand(-1, *self.backbone.grid)]  # (B, h, w), the image's scale
        for side in self.options.windows:
            scores = two_way(batch.features[Tap("windows", side)], text, temperature)  # (B, n)
            scales.append(over_patches(scores, self.backbone.grid, side))
        maps = harmonic_mean(torch.stack(scales))  # (B, h, w)
        return AnomalyOutput(maps, image_score=image)


def over_patches(scores: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Return the harmonic mean of the scores of the windows that cover each patch (section 4.2).

    Args:
        scores: (B, n) in 0..1 of all windows of side x side patches, one patch apart, row-major.
        grid: (h, w), n = (h - side + 1) (w - side + 1).
        side: side of the windows in patches.

    Returns:
        (B, h, w) in 0..1.
    """
    reciprocals = (1 / scores).view(-1, 1, grid[0] - side + 1, grid[1] - side + 1)
    footprint = scores.new_ones(1, 1, side, side)
    # a transposed convolution adds every window's value to the patches under it
    total = F.conv_transpose2d(reciprocals, footprint)  # (B, 1, h, w)
    covering = F.conv_transpose2d(torch.ones_like(reciprocals[:1]), footprint)  # (1, 1, h, w) windows over each patch
    return (covering / total)[:, 0]


def harmonic_mean(scores: Tensor) -> Tensor:
    """Return the harmonic mean over the first dimension, (K, ...) to (...); 0 if any value is 0."""
    return len(scores) / (1 / scores).sum(0)
