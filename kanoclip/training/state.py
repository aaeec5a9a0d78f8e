"""The state of a training after an epoch, stored in a file so that a killed training can resume.

The file begins with the SHA-256 of the rest, since resuming from a damaged state would give another checkpoint.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from kanoclip.files import whole
from kanoclip.methods.base import Method
from kanoclip.methods.phases import Phase
from kanoclip.types import logger

DIGEST_BYTES = 32


@dataclass
class TrainingState:
    """The state after an epoch, besides the method's parameters.

    Attributes:
        path: path of the file.
        fingerprint: fingerprint of everything the training depends on; a state with another fingerprint is not used.
        phase: number of finished phases.
        epoch: number of finished epochs of the current phase.
        step: number of optimiser steps of the current phase.
        rows: lines of train.csv so far.
    """

    path: Path
    fingerprint: str
    phase: int = 0
    epoch: int = 0
    step: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    _optimizer: dict[str, Any] | None = None

    def add(self, row: dict[str, Any]) -> None:
        """Record an optimiser step."""
        self.rows.append(row)
        self.step += 1

    def leave_phase(self, method: Method[Any]) -> None:
        """Record the end of a phase, and write the state."""
        self.phase, self.epoch, self.step = self.phase + 1, 0, 0
        self.save(method, None)

    def save(self, method: Method[Any], optimizer: torch.optim.Optimizer | None) -> None:
        """Write the state, whole or not at all; `optimizer` is that of an unfinished phase."""
        state: dict[str, Any] = {
            name: getattr(self, name) for name in ("fingerprint", "phase", "epoch", "step", "rows")
        }
        state["learned"] = {name: parameter.detach() for name, parameter in method.learned().items()}
        state["optimizer"] = optimizer.state_dict() if optimizer else None
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with whole(self.path) as temporary:
            temporary.write_bytes(hashlib.sha256(buffer.getbuffer()).digest() + buffer.getbuffer())

    def restore(self, method: Method[Any], phases: Sequence[Phase]) -> None:
        """Load the state from the file, if it exists and belongs to this training."""
        if not self.path.is_file():
            return
        content = self.path.read_bytes()
        digest, body = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            logger.info("%s: damaged, or of another version; starting over", self.path)
            return
        # on the CPU, for Adam's step counts: reading them from a GPU would synchronise per parameter and step
        state = torch.load(io.BytesIO(body), weights_only=True, map_location="cpu")
        if state["fingerprint"] != self.fingerprint:
            logger.info("%s: of another training; starting over", self.path)
            return
        with torch.no_grad():
            for name, parameter in method.learned().items():
                parameter.copy_(state["learned"][name])
        self._optimizer = state["optimizer"]
        for name in ("phase", "epoch", "step", "rows"):
            setattr(self, name, state[name])
        where = phases[self.phase].name if self.phase < len(phases) else "the last phase"
        logger.info("%s: resumed in %s after epoch %d", self.path, where, self.epoch)

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Load the optimiser's state of an unfinished phase."""
        if self._optimizer is not None:
            optimizer.load_state_dict(self._optimizer)
            self._optimizer = None
