"""Pretraining of the embedded CLIP, kanoclip-tiny, on drawn images and on composites of defects and photographs.

`pretrain(out, PretrainingConfig())` runs the whole recipe. Photographs are optional. Real anomalies are used neither
for training nor for any choice: validation uses kinds, defects, photographs and makers that training never sees.
"""

from kanoclip.pretraining.recipe import pretrain

__all__ = ["pretrain"]
