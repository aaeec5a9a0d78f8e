"""Score a target dataset: write scores.h5 from features, for several rows and seeds in one pass."""

from kanoclip.scoring.classes import finished
from kanoclip.scoring.passes import Scorer, run_pass, score
from kanoclip.scoring.progress import ScoresInProgress, write_scores

__all__ = ["Scorer", "ScoresInProgress", "finished", "run_pass", "score", "write_scores"]
