"""What every module shares: the error a user can mend, logging, seeds, progress."""

import difflib
import logging
import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

logger = logging.getLogger("kanoclip")

NO_AUXILIARY = "none"  # in paths and tables, for methods that are not trained
SIGMA_REFERENCE_SIZE = 518  # the image size, in pixels a side, at which every sigma of an anomaly map is given


class InputError(ValueError):
    """Something the user gave is wrong.

    The message is one line: which file or key, what was expected, what was found, what to do. The command line prints
    it without a traceback and exits with 1.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is in no registry; it names the nearest valid one.

    Args:
        kind: what was looked for, e.g. "method".
        name: what the user wrote.
        known: every valid name.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"
    return InputError(f"unknown {kind} '{name}'; {hint}")


def setup_logging() -> None:
    """Send log lines to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for chatty in ("httpx", "httpx2", "root"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    logger.setLevel(logging.INFO)


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """Show a progress bar on a terminal, nothing in a log file."""
    return tqdm(items, desc=description, total=total, disable=None, leave=False)
