"""Pretraining of the embedded CLIP, kanoclip-tiny, on procedural images only.

`pretrain(out, PretrainingConfig())` is the whole recipe. No real image is used for training or for any choice: the
validation sets are kinds and defects of the generator that training never sees.
"""

from kanoclip.pretraining.recipe import pretrain

__all__ = ["pretrain"]
