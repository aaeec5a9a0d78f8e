"""Train methods. The last epoch is always used; no checkpoint is selected."""

from kanoclip.training.data import TrainingData, check_trainable
from kanoclip.training.loop import fit
from kanoclip.training.state import TrainingState

__all__ = ["TrainingData", "TrainingState", "check_trainable", "fit"]
