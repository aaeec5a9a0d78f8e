"""Test the output of commands: progress lines with a fake clock, and a log file beside a terminal."""

import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kanoclip import logs
from kanoclip.logs import Progress, progress

ROOT = Path(__file__).parents[2]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(logs, "monotonic", clock)
    return clock


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, clock: Clock) -> Callable[..., list[tuple[float, str]]]:
    """Iterate over items that take some seconds each; return the times and texts of the progress lines."""
    caplog.set_level("INFO", logger="kanoclip")

    def run(items: object, seconds: float, **options: object) -> list[tuple[float, str]]:
        caplog.clear()
        start, found = clock.now, []
        for _ in progress(items, "encode mvtec_ad", **options):
            found += [(clock.now - start, text) for text in caplog.messages[len(found) :]]
            clock.now += seconds
        return found + [(clock.now - start, text) for text in caplog.messages[len(found) :]]

    return run


def test_a_short_pass_logs_nothing(said: Callable[..., list]) -> None:
    assert said(range(9), 1) == []


def test_a_pass_with_one_line_has_no_last_line(said: Callable[..., list]) -> None:
    assert said(range(40), 0.5) == [(10, "encode mvtec_ad: 20 of 40 items, 2.0 items/s, 10 s left")]


def test_a_long_pass_has_a_line_every_half_minute_and_a_last_one(said: Callable[..., list]) -> None:
    lines = said(range(1600), 1 / 16, unit="images")
    assert [seconds for seconds, _ in lines] == [10, 40, 70, 100]
    assert lines[1][1] == "encode mvtec_ad: 640 of 1,600 images, 16.0 images/s, 1 min 00 s left"
    assert lines[-1][1] == "encode mvtec_ad: 1,600 images in 1 min 40 s, 16.0 images/s"


def test_progress_of_batches_counts_images(said: Callable[..., list]) -> None:
    batches = [range(32)] * 50 + [range(8)]
    lines = said(batches, 1, total=1608, unit="images", count=len)
    assert lines[0] == (10, "encode mvtec_ad: 320 of 1,608 images, 32.0 images/s, 40 s left")
    assert lines[-1] == (51, "encode mvtec_ad: 1,608 images in 51 s, 31.5 images/s")


def test_slow_items_are_reported_in_seconds_each(said: Callable[..., list]) -> None:
    lines = said(range(5), 90, unit="epochs")
    assert lines[0] == (90, "encode mvtec_ad: 1 of 5 epochs, 1 min 30 s each, 6 min 00 s left")


def test_without_a_total_only_count_and_rate_are_logged(said: Callable[..., list]) -> None:
    assert said(iter(range(12)), 1)[0] == (10, "encode mvtec_ad: 10 items, 1.0 items/s")


def test_items_of_an_earlier_run_do_not_count_in_the_rate(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="kanoclip")
    with Progress("download a.zip", 500e6, "B", initial=200e6) as shown:
        clock.now += 20
        shown.update(100e6)
    assert caplog.messages == ["download a.zip: 300 of 500 MB, 5.0 MB/s, 40 s left"]


def test_a_slow_download_is_reported_in_megabytes_per_second(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="kanoclip")
    with Progress("download a.zip", unit="B") as shown:
        clock.now += 20
        shown.update(4e6)
    assert caplog.messages == ["download a.zip: 4 MB, 0.2 MB/s"]


def test_a_pass_over_no_items_logs_nothing(said: Callable[..., list]) -> None:
    assert said([], 1) == []


def test_a_pass_that_fails_or_stops_early_has_no_last_line(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="kanoclip")
    items = progress(range(100), "score", unit="images")
    for _ in range(5):
        next(items)
        clock.now += 40
    items.close()
    assert len(caplog.messages) == 4 and not any(" in " in text for text in caplog.messages)


def test_a_terminal_gets_a_bar_and_no_lines(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    for _ in progress(range(3), "encode", unit="images"):
        clock.now += 60
    assert "encode" in screen.getvalue() and "images" in screen.getvalue()
    assert caplog.messages == []


PASS = """
import ctypes, os, subprocess, sys, warnings
from pathlib import Path
from kanoclip import logs
logs.setup_logging(Path(sys.argv[1]))
now = 0.0
logs.monotonic = lambda: now
for _ in logs.progress(range(200), "score mvtec_ad", unit="images"):
    now += 0.25
logs.logger.info("a log line")
logs.logger.warning("a warning of ours")
print("a result")
warnings.warn("a warning of a library")
os.write(2, b"a line from C\\n")
subprocess.run(["echo", "a line of a child"])
END
"""


def run_pass(log: Path, end: str = "") -> subprocess.CompletedProcess[str]:
    script = PASS.replace("END", end)
    return subprocess.run([sys.executable, "-c", script, str(log)], cwd=ROOT, capture_output=True, text=True)


def test_the_log_file_has_everything_and_the_terminal_only_warnings_and_results(tmp_path: Path) -> None:
    done = run_pass(tmp_path / "logs/score.log")
    text = (tmp_path / "logs/score.log").read_text()
    everything = ("a log line", "a warning of ours", "a result", "a warning of a library", "a line from C")
    for line in (*everything, "a line of a child"):
        assert text.count(f"{line}\n") == 1
    assert text.count("score mvtec_ad: ") == 3
    assert done.stdout == "a result\n"
    lines = done.stderr.splitlines()
    assert [line.split(",")[0] for line in lines[:5]] == [
        *(f"score mvtec_ad: {count} of 200 images" for count in (40, 80, 120, 160)),
        "score mvtec_ad: 200 images in 50 s",
    ]
    assert lines[5] == "a warning of ours" and "a warning of a library" in lines[6]
    assert not {"a log line", "a line from C", "a line of a child"} & set(lines)


def test_a_traceback_and_a_crash_are_in_the_log(tmp_path: Path) -> None:
    done = run_pass(tmp_path / "log", "raise ArithmeticError('unforeseen')")
    assert done.returncode == 1
    for text in (done.stderr, (tmp_path / "log").read_text()):
        assert "Traceback" in text and "ArithmeticError: unforeseen" in text
    done = run_pass(tmp_path / "log", "import faulthandler; faulthandler.enable(); ctypes.string_at(0)")
    assert done.returncode < 0
    assert "Segmentation fault" in (tmp_path / "log").read_text()


def kanoclip(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kanoclip", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, text=True, **({"capture_output": True} | options))


def test_the_error_line_is_in_the_log_and_on_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "prepare.log"
    done = kanoclip("--log", log, "prepare", "--dataset", "mvtek_ad", "--out", tmp_path / "index.csv")
    assert done.returncode == 1
    assert done.stderr == log.read_text() == "error: unknown dataset 'mvtek_ad'; did you mean 'mvtec_ad'?\n"


def test_the_error_on_a_wrong_option_is_in_the_log_too(tmp_path: Path) -> None:
    done = kanoclip("--log", tmp_path / "log", "prepare", "--dataste", "x")
    assert done.returncode == 2
    assert "--dataste" in done.stderr and done.stderr == (tmp_path / "log").read_text()


def test_a_log_replaces_that_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("of an earlier run\n" * 9)
    assert kanoclip("--log", tmp_path / "log", "list", "metrics").returncode == 0
    text = (tmp_path / "log").read_text()
    assert "image auroc\n" in text and "earlier" not in text


def test_a_log_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    done = kanoclip("--log", tmp_path, "list", "metrics")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"error: {tmp_path}: cannot write the log: Is a directory\n"


def test_a_closed_terminal_does_not_stop_the_work(tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    os.close(main)  # like a lost connection: writing to the terminal fails from now on
    done = kanoclip(
        "--log", tmp_path / "log", "list", "metrics", capture_output=False, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    assert done.returncode == 0
    assert "image auroc\n" in (tmp_path / "log").read_text()
