"""Log lines and progress of a command, on the terminal, in a log file, or both."""

import io
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

logger = logging.getLogger("kanoclip")
_terminal: TextIO | None = None  # receives short progress lines while the log is a file

FIRST = 10.0  # seconds before the first line of a loop; shorter loops print none
EVERY = 30.0  # seconds between two lines in a log
EVERY_ON_TERMINAL = 10.0  # seconds between two lines on the terminal, beside a log file


def setup_logging(log: Path | None = None) -> None:
    """Send log lines to standard error, or everything to a file; once per process.

    With a file, it receives standard output and standard error of the process and its children, including a crash in C.
    Python's output (results, warnings, the final error) is also shown on the terminal. Log lines go to the file, and
    from warnings upwards to the terminal, which also shows the progress of long loops (`Progress`).

    Args:
        log: the file, overwritten; its folder is created.

    Raises:
        OSError: the file cannot be written.
    """
    global _terminal
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
        output, errors = _redirect(file.fileno())
        sys.stdout, sys.stderr = _both(file.fileno(), output), _both(file.fileno(), errors)
        _terminal = os.fdopen(errors, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
        warnings = _Handler(_terminal)
        warnings.setLevel(logging.WARNING)
        handlers = [_Handler(file), warnings]
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers, force=True)
    for chatty in ("httpx", "httpx2", "root"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    logger.setLevel(logging.INFO)


class Progress:
    """The progress of a loop over many items: a bar on a terminal, occasional lines in a log. A context manager.

    The lines look like `score mvtec_ad: 640 of 1,725 images, 37.1 images/s, 29 s left`. The first comes after
    `FIRST` seconds, so short loops print none.

    Args:
        description: the stage and the dataset, such as "score mvtec_ad", which identifies the job on the terminal.
        total: number of units, if known.
        unit: their name in the plural; "B" for bytes, shown as MB.
        initial: number of units that an earlier run has finished.
    """

    def __init__(self, description: str, total: float | None = None, unit: str = "items", initial: float = 0):
        self._description, self._total, self._initial, self._done = description, total, initial, initial
        self._unit, self._scale = ("MB", 1e6) if unit == "B" else (unit, 1.0)
        self._started = monotonic()
        self._bar: tqdm | None = None
        self._lines: list[_Lines] = []
        if sys.stderr.isatty() and _terminal is None:
            self._bar = tqdm(
                desc=description,
                total=total,
                initial=initial,
                unit=unit if unit == "B" else f" {unit}",
                unit_scale=unit == "B",
                leave=False,
            )
        else:
            self._lines.append(_Lines(logger.info, EVERY, self._started))
            if _terminal is not None:
                self._lines.append(_Lines(_show, EVERY_ON_TERMINAL, self._started))

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if kind is None:
            for lines in self._lines:
                lines.last(self._end)

    def update(self, count: float = 1) -> None:
        """Report that `count` more units are done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        if self._done != self._total:  # the end has its own line
            for lines in self._lines:
                lines.offer(monotonic(), self._state)

    def _state(self) -> str:
        """Return the line of an unfinished loop."""
        seconds = monotonic() - self._started
        of = "" if self._total is None else f" of {self._number(self._total)}"
        left = ""
        if self._total is not None and self._done > self._initial:
            left = f", {_duration(seconds * (self._total - self._done) / (self._done - self._initial))} left"
        return f"{self._description}: {self._number(self._done)}{of} {self._unit}{self._speed(seconds)}{left}"

    def _end(self) -> str:
        """Return the line of a finished loop."""
        seconds = monotonic() - self._started
        took = f"{self._number(self._done)} {self._unit} in {_duration(seconds)}"
        return f"{self._description}: {took}{self._speed(seconds)}"

    def _number(self, value: float) -> str:
        return f"{value / self._scale:,.0f}"

    def _speed(self, seconds: float) -> str:
        rate = (self._done - self._initial) / self._scale / seconds
        if rate >= 1 or self._unit == "MB":
            return f", {rate:,.1f} {self._unit}/s"
        return f", {_duration(1 / rate)} each" if rate > 0 else ""


def progress(
    items: Iterable[Item],
    description: str,
    total: float | None = None,
    unit: str = "items",
    count: Callable[[Item], float] | None = None,
) -> Iterator[Item]:
    """Iterate and show the progress; an item counts as done when the next one is requested.

    Args:
        items: the iterable.
        description: see `Progress`.
        total: number of units; default: the length of `items`, if it has one and each item is one unit.
        unit: see `Progress`.
        count: returns the number of units of an item, such as `len` for batches; default: one.
    """
    if total is None and count is None and isinstance(items, Sized):
        total = len(items)
    with Progress(description, total, unit) as shown:
        for item in items:
            yield item
            shown.update(1 if count is None else count(item))


class _Lines:
    """Rate-limited progress lines for one destination."""

    def __init__(self, say: Callable[[str], None], every: float, started: float):
        self._say, self._every, self._next, self._said = say, every, started + FIRST, 0

    def offer(self, now: float, text: Callable[[], str]) -> None:
        """Print the text if enough time has passed since the last line."""
        if now >= self._next:
            self._say(text())
            self._next = now + self._every
            self._said += 1

    def last(self, text: Callable[[], str]) -> None:
        """Print the final line, if the loop was long enough for earlier ones."""
        if self._said > 1:
            self._say(text())


def _show(text: str) -> None:
    """Show a line on the terminal, if it is still there."""
    with suppress(OSError):
        print(text, file=_terminal)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes log lines; neither a terminal that was closed nor a full disk must stop the work."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Continue without the line that could not be written."""


class _Tee(io.RawIOBase):
    """Writes to a log file, then to the terminal, which may have been closed."""

    _failed = False  # whether it was said that the log cannot be written; the same log for output and errors

    def __init__(self, log: int, terminal: int):
        self._log, self._shown = log, terminal

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """Return the descriptor of the log file, which receives the output of child processes."""
        return self._log

    def write(self, data: object) -> int:
        """Write to both.

        Raises:
            OSError: the log cannot be written, for the first time; the terminal shows the text all the same.
        """
        content = bytes(data)  # type: ignore[call-overload]  # a buffer, as in io.RawIOBase
        try:
            content = content[: os.write(self._log, content)]
        except OSError:
            if not _Tee._failed:
                _Tee._failed = True
                raise
        finally:
            with suppress(OSError):
                os.write(self._shown, content)
        return len(content)


def _redirect(log: int) -> tuple[int, int]:
    """Redirect standard output and standard error of the process to a file; return their previous destinations."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return before


def _both(log: int, terminal: int) -> TextIO:
    """Return a text stream to a log file and the terminal."""
    buffer = io.BufferedWriter(_Tee(log, terminal))
    return io.TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _duration(seconds: float) -> str:
    """Format a duration for people.

    >>> [_duration(seconds) for seconds in (0.5, 29.4, 200, 7500)]
    ['0.5 s', '29 s', '3 min 20 s', '2 h 05 min']
    """
    if seconds < 9.5:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
