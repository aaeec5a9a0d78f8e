"""The one way in which methods are trained: from cached features, the last epoch used, nothing selected."""

from kanoclip.training.data import TrainingData, check_trainable
from kanoclip.training.loop import fit

__all__ = ["TrainingData", "check_trainable", "fit"]
