"""CLIP-AC: CLIP with an ensemble of photo templates around the words normal and anomalous (AnomalyCLIP, appendix).

The original list of templates was never released; this is a re-implementation with the 35 templates of APRIL-GAN.
Formulas: docs/methods/clip_ac.md.
"""

from kanoclip.methods.base import register
from kanoclip.methods.clip import Clip


@register("clip_ac")
class ClipAC(Clip):
    """35 prompts per polarity on the original stream."""

    ensemble = "clip_ac"
