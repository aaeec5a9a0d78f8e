"""The stages that join several parts of the package: train, score, cross-validate."""

from kanoclip.stages.cross_validation import cross_validate_stage
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.scoring import Scored, score_stage
from kanoclip.stages.training import train_stage

__all__ = ["Dataset", "Scored", "cross_validate_stage", "score_stage", "train_stage"]
