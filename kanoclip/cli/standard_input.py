"""Read arguments from standard input, because Linux limits a command line to about 2 MB and an argument to 128 KiB."""

import os
import sys
from collections.abc import Sequence

FROM_INPUT = "@-"


def expand(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command with each `@-` replaced by the lines of standard input, except for empty ones.

    Args:
        arguments: without the name of the program.
    """
    if FROM_INPUT not in arguments:
        return list(arguments)
    # not splitlines(): an argument may hold one of the rarer line separators
    lines = [line for line in os.fsdecode(sys.stdin.buffer.read()).split("\n") if line]
    return [part for argument in arguments for part in (lines if argument == FROM_INPUT else [argument])]
