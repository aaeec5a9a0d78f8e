"""Pretraining of the embedded CLIP, kanoclip-tiny, on drawn images and on composites of defects and photographs.

`pretrain(out, PretrainingConfig())` is the whole recipe. Photographs are optional. Real anomalies take no part in
training or in any choice: the validation sets are kinds, defects, photographs and makers that training never sees.
"""

from kanoclip.pretraining.recipe import pretrain

__all__ = ["pretrain"]
