"""Check what a method returns, so that a mistake in it ends in one line that names the method."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from kanoclip.backbones.taps import Features, Tap
from kanoclip.methods.base import AnomalyOutput, Batch, Method
from kanoclip.methods.phases import Phase
from kanoclip.types import InputError


class DeclaredTaps(dict[Tap, Tensor]):
    """The features that a method's `reads` names; any other tap is refused.

    Args:
        method: the method that gets them.
        features: by tap, at least those that it named.
        named: the taps that it named.
    """

    def __init__(self, method: Method[Any], features: Features, named: frozenset[Tap]):
        super().__init__({tap: features[tap] for tap in named})
        self._method = method

    def __missing__(self, tap: Tap) -> Tensor:
        named = ", ".join(map(str, sorted(self))) or "none"
        raise InputError(
            f"{_name(self._method)}: it reads the tap {tap}, which its `reads` does not name; named: {named}"
        )


def scored(method: Method[Any], batch: Batch) -> AnomalyOutput:
    """Score a batch, and check types and shapes of the output.

    Raises:
        InputError: `forward` returned something else than maps (B, h, w) and scores (B,).
    """
    output, images = method(batch), len(batch.images)
    if not isinstance(output, AnomalyOutput):
        raise InputError(f"{_name(method)}: expected an AnomalyOutput from forward, found {_kind(output)}")
    for field, expected in {"map": f"({images}, h, w)", "image_score": f"({images},)"}.items():
        value = getattr(output, field)
        fits = isinstance(value, Tensor) and value.ndim == (3 if field == "map" else 1) and len(value) == images
        if not fits:
            raise InputError(
                f"{_name(method)}: expected {field} of shape {expected} from forward, found {_kind(value)}"
            )
    return output


def phases_of(method: Method[Any]) -> Sequence[Phase]:
    """Return the phases of a method that is to be trained.

    Raises:
        InputError: there is none, or a group lacks its name, params or lr.
    """
    phases = method.phases()
    if not isinstance(phases, Sequence) or not phases or not all(isinstance(phase, Phase) for phase in phases):
        found = "none" if isinstance(phases, Sequence) and not phases else _kind(phases)
        raise InputError(f"{_name(method)}: it is trainable, so `phases` must return a list of Phase, found {found}")
    for phase in phases:
        for group in phase.groups:
            lacking = {"name", "params", "lr"} - group.keys()
            if lacking:
                raise InputError(
                    f"{_name(method)}: each group of phase {phase.name} needs name, params and lr, found one without "
                    f"{', '.join(sorted(lacking))}"
                )
    return phases


def losses_of(method: Method[Any], phase: Phase, batch: Batch) -> Mapping[str, Tensor]:
    """Return the terms of the loss of a batch, each a tensor without axes.

    Raises:
        InputError: `losses` of the phase returned something else.
    """
    named = DeclaredTaps(method, batch.features, frozenset(batch.features))
    parts = phase.losses(replace(batch, features=named))
    where = f"{_name(method)}: losses of phase {phase.name}"
    if not isinstance(parts, Mapping) or not parts:
        raise InputError(f"{where}: expected tensors by name, found {_kind(parts)}")
    for name, value in parts.items():
        if not isinstance(value, Tensor) or value.ndim:
            raise InputError(f"{where}: expected a tensor without axes for {name}, found {_kind(value)}; take its mean")
    return parts


def _name(method: Method[Any]) -> str:
    return f"method {type(method).__name__}"


def _kind(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
