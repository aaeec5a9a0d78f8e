"""Taps: the named outputs of frozen towers, which methods read and caches store.

Each kind of tap is one registered function. There are three forms:

- `readout`: a part of the residual stream after a block (`tokens`, `cls`);
- `local_stream`: the update of each block to a second stream, which starts as a copy of the residual stream before
  block `vv_start` and never feeds back into it (`vv`, `qkv`);
- `image_tap`: any other function of the pixels (`windows`, `views`, `pixels`, `calibrated`).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from torch import Tensor

from kanoclip.types import InputError, unknown_name

CLIP = "clip"  # the name of CLIP's own image tower


@dataclass(frozen=True, order=True)
class Tap:
    """A named output of a frozen tower.

    Attributes:
        kind: a registered kind, see `tap_kinds`.
        at: a block, where 0 is the input of the first block; for `windows` and `pixels` a side length, for `views` a
            number of views.
        tower: name of the tower; "clip" is CLIP's own.

    >>> str(Tap("vv", 24))
    'vv/24'
    >>> Tap.parse("dino:tokens/12")
    Tap(kind='tokens', at=12, tower='dino')
    """

    kind: str
    at: int
    tower: str = CLIP

    def __str__(self) -> str:
        prefix = "" if self.tower == CLIP else f"{self.tower}:"
        return f"{prefix}{self.kind}/{self.at}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a tap written by `str`.

        Raises:
            InputError: the text has another form, or the kind is unknown.
        """
        tower, colon, rest = text.rpartition(":")
        kind, slash, at = rest.partition("/")
        if not slash or not at.isdecimal() or (colon and not tower):
            raise InputError(f"tap '{text}': expected KIND/BLOCK such as vv/24, or TOWER:KIND/BLOCK")
        if kind not in tap_kinds():
            raise unknown_name("kind of tap", kind, tap_kinds())
        return cls(kind, int(at), tower or CLIP)


Features = dict[Tap, Tensor]
"""Features of B images: a tensor (B, ...) per tap."""

Readout = Callable[[Tensor], Tensor]
LocalStream = Callable[[Any, int, Tensor], Tensor]  # the first argument is a `kanoclip.backbones.tower.Tower`
ImageTap = Callable[[Any, Tensor, int], Tensor]

Function = TypeVar("Function", bound=Callable[..., Any])

READOUTS: dict[str, Readout] = {}
LOCAL_STREAMS: dict[str, LocalStream] = {}
IMAGE_TAPS: dict[str, ImageTap] = {}


def readout(kind: str) -> Callable[[Readout], Readout]:
    """Register a function of the residual stream after a block: (B, 1 + P, W) to (B, ...)."""
    return lambda function: _add(READOUTS, kind, function)


def local_stream(kind: str) -> Callable[[LocalStream], LocalStream]:
    """Register the update of a local stream: (tower, block number, block input (B, 1 + P, W)) to the same shape."""
    return lambda function: _add(LOCAL_STREAMS, kind, function)


def image_tap(kind: str) -> Callable[[ImageTap], ImageTap]:
    """Register a function of normalised pixels: (tower, (B, 3, S, S), at) to (B, ...)."""
    return lambda function: _add(IMAGE_TAPS, kind, function)


def tap_kinds() -> list[str]:
    """Return every registered kind."""
    return sorted([*READOUTS, *LOCAL_STREAMS, *IMAGE_TAPS])


def check_taps(taps: Collection[Tap], layers: dict[str, int]) -> None:
    """Refuse taps that no tower has.

    Args:
        taps: the taps to check.
        layers: name of each tower to its number of blocks.

    Raises:
        InputError: a tower or kind is unknown, a block is outside its tower, or a side is 0.
    """
    for tap in sorted(taps):
        if tap.kind not in tap_kinds():
            raise unknown_name("kind of tap", tap.kind, tap_kinds())
        if tap.tower not in layers:
            raise unknown_name("tower", tap.tower, layers)
        if tap.kind in IMAGE_TAPS:
            if tap.at < 1:
                raise InputError(f"tap {tap}: expected a number of at least 1")
        elif tap.at > layers[tap.tower]:
            raise InputError(f"tap {tap}: the tower has {layers[tap.tower]} blocks; choose a block up to that number")


def _add(registry: dict[str, Function], kind: str, function: Function) -> Function:
    if kind in tap_kinds():
        raise ValueError(f"two kinds of tap are called {kind}")
    registry[kind] = function
    return function
