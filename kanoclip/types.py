"""Names that all modules share: the error for invalid input, the logger and progress."""

import difflib
from collections.abc import Iterable

from kanoclip.logs import Progress, logger, progress, setup_logging

__all__ = ["SIGMA_REFERENCE_SIZE", "InputError", "Progress", "logger", "progress", "setup_logging", "unknown_name"]

SIGMA_REFERENCE_SIZE = 518  # the image size, in pixels per side, at which every sigma of an anomaly map is given


class InputError(ValueError):
    """The user's input is invalid.

    The message is one line: which file or key, what was expected, what was found, what to do. The command line prints
    the line without a traceback and exits with 1.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for a name that is not registered; it suggests the nearest valid name.

    >>> str(unknown_name("method", "klip", ["clip", "winclip"]))
    "unknown method 'klip'; did you mean 'clip'?"

    Args:
        kind: what was looked for, e.g. "method".
        name: what the user wrote.
        known: every valid name.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"
    return InputError(f"unknown {kind} '{name}'; {hint}")
