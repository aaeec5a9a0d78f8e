"""Procedural images with exact masks: textures, objects and scans, normal or with one defect.

Every image is determined by (kind, defect, seed, size); none is a real image. Of the drawn
kinds, `kanoclip-tiny` is pretrained on the TRAINING_KINDS only; the synthetic target dataset consists of HELD_OUT_KINDS
only.
"""

from kanoclip.datasets.synthetic.captions import Caption, describe
from kanoclip.datasets.synthetic.kinds import (
    AUXILIARY_KINDS,
    DEFECTS,
    HELD_OUT_DEFECTS,
    HELD_OUT_KINDS,
    KINDS,
    TRAINING_DEFECTS,
    TRAINING_KINDS,
    defects_of,
    display_name,
)
from kanoclip.datasets.synthetic.render import Facts, Sample, render

__all__ = [
    "AUXILIARY_KINDS",
    "DEFECTS",
    "HELD_OUT_DEFECTS",
    "HELD_OUT_KINDS",
    "KINDS",
    "TRAINING_DEFECTS",
    "TRAINING_KINDS",
    "Caption",
    "Facts",
    "Sample",
    "defects_of",
    "describe",
    "display_name",
    "render",
]
