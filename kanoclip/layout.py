"""The paths of a run's files, for the workflow and the commands."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The folder of a run, `results/<run>`. Arguments may be names, or patterns in braces for the workflow.

    >>> Layout(Path("results/paper")).scores("clip", "clip-l14-518", "none", "visa", 111).as_posix()
    'results/paper/scores/clip/clip-l14-518/none/visa/seed111'
    """

    root: Path

    @property
    def protocol(self) -> Path:
        """The run as plain data, see `kanoclip.run`."""
        return self.root / "protocol.json"

    @property
    def store(self) -> Path:
        """The store of finished and unfinished results, by fingerprint."""
        return self.root / "store"

    def index(self, dataset: str) -> Path:
        """Return the path of a dataset's index.csv."""
        return self.root / "data" / dataset / "index.csv"

    def knowledge(self, dataset: str) -> Path:
        """Return the path of the descriptions of a dataset's anomalies."""
        return self.root / "knowledge" / f"{dataset}.jsonl"

    def features(self, backbone: str, dataset: str) -> Path:
        """Return the path of cached features."""
        return self.root / "features" / backbone / f"{dataset}.h5"

    def models(self, row: str, backbone: str, auxiliary: str) -> Path:
        """Return the folder of a row's trainings, which has one folder seed<n> each."""
        return self.root / "models" / row / backbone / auxiliary

    def checkpoint(self, row: str, backbone: str, auxiliary: str, seed: int | str) -> Path:
        """Return the path of the learned parameters of a training."""
        return self.models(row, backbone, auxiliary) / f"seed{seed}" / "checkpoint.safetensors"

    def scores(self, row: str, backbone: str, auxiliary: str, target: str, seed: int | str) -> Path:
        """Return the folder of scores.h5, cost.json, metrics.csv and curves.csv of a row and seed."""
        return self.root / "scores" / row / backbone / auxiliary / target / f"seed{seed}"
