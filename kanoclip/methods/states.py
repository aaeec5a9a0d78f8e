"""Find and check the states inside published weight files."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kanoclip.types import InputError

State = Mapping[str, Tensor]


def states(files: Sequence[Any], *entries: str) -> list[State]:
    """Return the named states of a single file.

    Args:
        files: the loaded content of the files; one is expected.
        entries: names of states in its dictionary.

    Raises:
        InputError: there are several files, or an entry is missing or not a state.
    """
    if len(files) != 1:
        raise InputError(f"expected one file, found {len(files)}")
    (content,) = files
    found: list[State] = []
    for entry in entries:
        state = content.get(entry) if isinstance(content, Mapping) else None
        if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
            holds = f"the entries {list(content)}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
            raise InputError(f"expected an entry {entry} that holds a state, found {holds}")
        found.append(state)
    return found


def take(state: State, name: str, shape: Sequence[int | None]) -> Tensor:
    """Return a tensor of a state.

    Args:
        state: tensors by name.
        name: name of the tensor.
        shape: the required shape; None stands for any length.

    Raises:
        InputError: it is missing or has another shape.
    """
    found = tuple(state[name].shape) if name in state else None
    if found is None or len(found) != len(shape) or any(w not in (None, f) for w, f in zip(shape, found, strict=True)):
        expected = str(tuple(shape)).replace("None", "any")
        raise InputError(f"{name}: expected shape {expected}, found {found or 'none'}")
    return state[name]


def levels(state: State, pattern: str) -> int:
    """Return how many tensors of a numbered series a state holds, counted from 0 without gaps.

    >>> levels({"fc.0.bias": ..., "fc.1.bias": ...}, "fc.{}.bias")
    2
    """
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count
