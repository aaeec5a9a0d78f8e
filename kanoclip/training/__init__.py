"""How all methods are trained: the last epoch is used, nothing is selected."""

from kanoclip.training.data import TrainingData, check_trainable
from kanoclip.training.loop import fit
from kanoclip.training.state import TrainingState

__all__ = ["TrainingData", "TrainingState", "check_trainable", "fit"]
