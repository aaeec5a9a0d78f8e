"""The rows of tables as plain data, and the form in which the workflow passes them to commands."""

from pathlib import Path
from typing import Any

from kanoclip.config import Strict

NO_AUXILIARY = "none"  # in paths and tables, for training-free methods
EMBEDDED = "embedded"  # as a checkpoint: the one that is shipped
SHIPPED = Path(__file__).parent / "predict" / "embedded" / "kanoclip.safetensors"


def checkpoint_file(written: str) -> Path:
    """Return the file of a checkpoint as written in a configuration."""
    return SHIPPED if written == EMBEDDED else Path(written)


class Checkpoint(Strict):
    """A training done before the run.

    Attributes:
        file: as written in the configuration; see `checkpoint_file`.
        auxiliary: the dataset it was trained on.
        seed: seed of the training.
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
        training_options: auxiliary dataset to the options to train with, if they differ.
        weights: "trained" by the run, or "published" by the method's authors.
        backbone: name of one of the run's backbones.
        control: whether it validates the evaluation instead of competing: a control, or any method on random weights.
        trainable: whether it has learned parameters.
        checkpoint: the source of these parameters, if the run does not train them.
        reads: the taps that it scores with.
        default_epochs: epochs of its training if its options set none; 0 for a training-free method.
        marks: shown after its name in tables: "transductive", "extension".
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
        """Whether the run trains it: it is trainable and uses neither published weights nor a checkpoint."""
        return self.trainable and self.weights == "trained" and self.checkpoint is None

    def options_on(self, auxiliary: str) -> dict[str, Any]:
        """Return the options to train with on a dataset."""
        return self.training_options.get(auxiliary, self.options)

    def epochs_on(self, auxiliary: str) -> int:
        """Return the number of epochs of a training on a dataset."""
        return int(self.options_on(auxiliary).get("epochs", self.default_epochs))


class PassRow(Strict):
    """A row of a pass with its seeds, as the workflow passes it to a command.

    Attributes:
        row: its name.
        method: the registered method.
        options: options of a training-free row; a checkpoint contains its options.
        auxiliary: the dataset that the row is trained on, or NO_AUXILIARY.
        seeds: the seeds to score.
        checkpoint: as `Checkpoint.file`, of a row that the run does not train.
    """

    row: str
    method: str
    options: dict[str, Any]
    auxiliary: str
    seeds: tuple[int, ...]
    checkpoint: str | None = None
