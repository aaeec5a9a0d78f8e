"""The state of a training between two epochs, in a file, so that a killed training goes on where it stopped."""

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from kanoclip.files import whole
from kanoclip.methods.base import Method
from kanoclip.types import logger


@dataclass
class TrainingState:
    """What an epoch ends with, beside the method's parameters.

    Attributes:
        path: of the file.
        fingerprint: of everything that the training depends on; a state with another one is not used.
        epoch: epochs done.
        rows: of train.csv so far.
    """

    path: Path
    fingerprint: str
    epoch: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)

    def save(self, method: Method, optimizer: torch.optim.Optimizer) -> None:
        """Write the state, whole or not at all."""
        state: dict[str, Any] = {
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "rows": self.rows,
            "learned": {name: parameter.detach() for name, parameter in method.learned().items()},
            "optimizer": optimizer.state_dict(),
        }
        with whole(self.path) as temporary:
            torch.save(state, temporary)

    def restore(self, method: Method, optimizer: torch.optim.Optimizer) -> None:
        """Take up the state of the file, if there is one and it belongs to this training."""
        if not self.path.is_file():
            return
        if not zipfile.is_zipfile(self.path):  # as torch writes it
            logger.info("%s: not readable; starting over", self.path)
            return
        state = torch.load(self.path, weights_only=True, map_location=method.backbone.device)
        if state["fingerprint"] != self.fingerprint:
            logger.info("%s: of another training; starting over", self.path)
            return
        with torch.no_grad():
            for name, parameter in method.learned().items():
                parameter.copy_(state["learned"][name])
        optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.rows = state["epoch"], state["rows"]
        logger.info("%s: going on after epoch %d", self.path, self.epoch)

    def forget(self) -> None:
        """Remove the file; the training is over and its checkpoint written."""
        self.path.unlink(missing_ok=True)
