"""The rows of tables as plain data, and what the workflow hands to a command of each row."""

from pathlib import Path
from typing import Any

from kanoclip.config import Strict

NO_AUXILIARY = "none"  # in paths and tables, for methods that are not trained
EMBEDDED = "embedded"  # as a checkpoint: the one that is shipped
SHIPPED = Path(__file__).parent / "predict" / "embedded" / "kanoclip.safetensors"


def checkpoint_file(written: str) -> Path:
    """Return the file that a configuration means by a checkpoint."""
    return SHIPPED if written == EMBEDDED else Path(written)


class Checkpoint(Strict):
    """A training that was done before the run.

    Attributes:
        file: as written in the configuration; see `checkpoint_file`.
        auxiliary: the dataset that it saw.
        seed: of the training.
    """

    file: str
    auxiliary: str
    seed: int


class Row(Strict):
    """A row of some table: a method with its options on a backbone.

    Attributes:
        name: in paths and tables.
        method: the registered method.
        recipe: "protocol", the common one, or "published", that of the method's own publication.
        options: as written in the configuration, over those of the recipe; or those of the checkpoint.
        training_options: by auxiliary dataset, the options to train with where they differ.
        weights: "trained" by the run, or "published" by the method's authors.
        backbone: one of the run's.
        control: whether it validates the evaluation instead of competing: a control, or any method on random weights.
        trainable: whether it has learned parameters.
        checkpoint: where these come from, if the run does not train them on an auxiliary dataset.
        reads: the taps that it scores with.
        default_epochs: epochs of its training where its options name none; 0 for a method that is not trained.
        marks: what tables say beside its name, of "transductive" and "extension".
    """

    name: str
    method: str
    recipe: str
    options: dict[str, Any]
    training_options: dict[str, dict[str, Any]]
    backbone: str
    weights: str = "trained"
    control: bool
    trainable: bool
    checkpoint: Checkpoint | None = None
    reads: tuple[str, ...] = ()
    default_epochs: int = 0
    marks: tuple[str, ...] = ()

    @property
    def trained_here(self) -> bool:
        """Whether the run trains it: it learns, and neither its authors nor a checkpoint give what it has learned."""
        return self.trainable and self.weights == "trained" and self.checkpoint is None

    def options_on(self, auxiliary: str) -> dict[str, Any]:
        """Return the options to train with on a dataset."""
        return self.training_options.get(auxiliary, self.options)

    def epochs_on(self, auxiliary: str) -> int:
        """Return the epochs of a training on a dataset."""
        return int(self.options_on(auxiliary).get("epochs", self.default_epochs))


class PassRow(Strict):
    """A row of a pass with its seeds, as the workflow hands it to a command.

    Attributes:
        row: its name.
        method: the registered method.
        options: of a row that is not trained; a checkpoint has its own.
        auxiliary: what the row is trained on, or NO_AUXILIARY.
        seeds: each is scored.
        checkpoint: as `Checkpoint.file`, of a row that the run does not train.
    """

    row: str
    method: str
    options: dict[str, Any]
    auxiliary: str
    seeds: tuple[int, ...]
    checkpoint: str | None = None
