"""`kanoclip predict` and `calibrate` report mistakes in one line and keep finished predictions."""

import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kanoclip import cli
from kanoclip.predict.drawing import Pictures

ENDS = {"clean": (0, None), "stopped": (130,)}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Run a command with zero-shot CLIP on the embedded backbone; return its exit code or its last line."""

    def command(*arguments: object) -> object:
        chosen = ["--method", "clip", "--threads", "1"]
        monkeypatch.setattr(sys, "argv", ["kanoclip", *map(str, arguments), *chosen])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code

    return command


def test_a_card_sets_the_threshold_and_is_refused_with_another_model(
    run: Callable[..., object], write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images, card = write_images(*(f"{i}.png" for i in range(9))), tmp_path / "card.json"
    assert run("calibrate", images, "--false-alarms", 0.1, "--class-name", "nut", "--out", card) in ENDS["clean"]
    kept = json.loads(card.read_text())
    assert (kept["normals"], kept["false_alarms"], kept["class_name"]) == (9, 0.1, "nut")
    again = ["predict", images, "--card", card, "--out", tmp_path / "out"]
    assert run(*again, "--class-name", "nut") in ENDS["clean"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert {line["threshold"] for line in lines} == {kept["image"]} and {line["decision"] for line in lines} == {
        "normal"
    }
    for other in (
        ["--class-name", "bolt"],
        ["--class-name", "nut", "--image-size", 64],
        ["--class-name", "nut", "--tiles", 16],
    ):
        assert "the card is of" in str(run(*again, *other)) and "calibrate again" in str(run(*again, *other))
    (tmp_path / "other.json").write_text("{}")
    assert "found another kind of file" in str(run("predict", images, "--card", tmp_path / "other.json"))


def test_normals_that_are_too_few_or_equal_are_refused(
    run: Callable[..., object], write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images = write_images("a.png", "b.png", "c.png")
    out = ["--out", tmp_path / "out"]
    assert "0.01 needs at least 99, found 3; 3 support 0.25 and above" in str(
        run("predict", images, "--normals", images, *out)
    )
    content = (images / "a.png").read_bytes()
    for number in range(9):
        (alike := tmp_path / "alike").mkdir(exist_ok=True)
        (alike / f"{number}.png").write_bytes(content)
    message = str(run("predict", images, "--normals", alike, "--false-alarms", 0.1, *out))
    assert "all 9 have the same score" in message and message.count("\n") == 0
    message = str(run("predict", images, "--normals", images, "--card", images / "a.png", *out))
    assert "expected one of them, found both" in message


def test_unreadable_files_are_listed_and_the_others_predicted(
    run: Callable[..., object], write_images: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = write_images("a.png", "b.png"), tmp_path / "out"
    (images / "notes.md").write_text("x")
    (images / "broken.png").write_bytes(b"no image")
    assert "1 of 3 files could not be read" in str(run("predict", images, "--out", out))
    assert (out / "skipped.txt").read_text().splitlines() == [str(images / "notes.md")]
    assert "broken.png" in (out / "predictions.csv").read_text() and (out / "index.html").is_file()
    assert "a.png" in capsys.readouterr().out
    (empty := tmp_path / "empty").mkdir()
    assert "expected images" in str(run("predict", empty, "--out", out))


def test_the_list_of_skipped_files_goes_when_none_is_skipped(
    run: Callable[..., object], write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images, out = write_images("a.png"), tmp_path / "out"
    (images / "notes.md").write_text("x")
    assert run("predict", images, "--out", out) in ENDS["clean"] and (out / "skipped.txt").is_file()
    (images / "notes.md").unlink()
    assert run("predict", images, "--out", out) in ENDS["clean"] and not (out / "skipped.txt").exists()


def test_a_refused_run_changes_no_file(
    run: Callable[..., object], write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images, out = write_images(*(f"{i}.png" for i in range(9))), tmp_path / "out"
    command = ["predict", images, "--normals", images, "--out", out, "--false-alarms"]
    assert run(*command, 0.1) in ENDS["clean"]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (images / "notes.md").write_text("x")
    assert "holds a prediction with another threshold" in str(run(*command, 0.3))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_normals_given_twice_count_once(
    run: Callable[..., object], write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images = write_images(*(f"{i}.png" for i in range(5)))
    again = ["--normals", images, "--normals", images / "0.png", "--normals", images]
    assert "needs at least 9, found 5" in str(run("predict", images, *again, "--false-alarms", 0.1))
    assert "needs at least 9, found 5" in str(
        run("calibrate", images, images, "--false-alarms", 0.1, "--out", tmp_path / "card.json")
    )


def test_a_rate_of_false_alarms_without_normals_is_refused(
    run: Callable[..., object], write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images = write_images("a.png")
    (tmp_path / "card.json").write_text("{}")
    for more in ([], ["--card", tmp_path / "card.json"]):
        message = str(run("predict", images, "--false-alarms", 7, *more, "--out", tmp_path / "out"))
        assert "--false-alarms: expected --normals with it" in message
    assert not (tmp_path / "out").exists()


def test_a_stop_or_a_full_disk_keeps_finished_predictions(
    run: Callable[..., object], write_images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = write_images(*(f"{i}.png" for i in range(6))), tmp_path / "out"
    write, reasons = Pictures.write, [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device", "4.png")]

    def failing(self: Pictures, result: object, name: str, scale: object) -> None:
        if name == "4.png" and reasons:
            raise reasons.pop(0)
        write(self, result, name, scale)  # type: ignore[arg-type]

    monkeypatch.setattr(Pictures, "write", failing)
    command = ["predict", images, "--out", out, "--batch-size", 2]
    assert run(*command) in ENDS["stopped"]
    done = (out / "predictions.jsonl").read_text()
    assert len(done.splitlines()) == 4
    assert "4.png: cannot be read or written: No space left on device; free space and run again" in str(run(*command))
    assert (out / "predictions.jsonl").read_text() == done
    assert run(*command) in ENDS["clean"]
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 6


@pytest.mark.slow
def test_a_second_run_after_ctrl_c_predicts_only_the_remaining_images(
    write_images: Callable[..., Path], tmp_path: Path
) -> None:
    """Send the signal of a terminal at a moment after the first predictions."""
    images, out = write_images(*(f"{i:03}.png" for i in range(120)), size=(600, 400)), tmp_path / "out"
    command = [sys.executable, "-m", "kanoclip", "predict", str(images), "--out", str(out), "--batch-size", "4"]
    command += ["--threads", "1"]
    lines = out / "predictions.jsonl"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (lines.is_file() and lines.stat().st_size):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert process.returncode == 130 and "run the same command to resume" in said
    assert "Traceback" not in said
    done = [json.loads(line)["image"] for line in lines.read_text().splitlines()]
    assert 0 < len(done) < 120
    times = {name: (out / "heat" / f"{name}.png").stat().st_mtime_ns for name in done}
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and f"{len(done)} of 120 images were predicted before" in again.stderr
    assert sorted(json.loads(line)["image"] for line in lines.read_text().splitlines()) == sorted(
        path.name for path in images.iterdir()
    )
    assert {name: (out / "heat" / f"{name}.png").stat().st_mtime_ns for name in done} == times


@pytest.mark.slow
def test_a_limit_on_file_sizes_is_reported_in_one_line(write_images: Callable[..., Path], tmp_path: Path) -> None:
    """With at most 4,000 bytes per file, predictions and then pictures fail as on a full disk."""
    images, out = write_images(*(f"{i:02}.png" for i in range(40))), tmp_path / "out"
    command = [sys.executable, "-m", "kanoclip", "predict", str(images), "--out", str(out), "--batch-size", "2"]
    command += ["--threads", "1", "--no-pictures"]
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY)); "
    limited += "import os; os.execv(sys.argv[1], sys.argv[1:])"
    found = subprocess.run([sys.executable, "-c", limited, *command], capture_output=True, text=True)
    assert found.returncode == 1 and "Traceback" not in found.stderr
    assert f"{out / 'predictions.jsonl'}: cannot be read or written: File too large" in found.stderr.splitlines()[-1]
    whole = [line for line in (out / "predictions.jsonl").read_text().splitlines() if line.endswith("}")]
    assert 0 < len(whole) < 40
    assert subprocess.run(command, capture_output=True).returncode == 0
    names = [json.loads(line)["image"] for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert sorted(names) == sorted(path.name for path in images.iterdir())
    assert len((out / "predictions.csv").read_text().splitlines()) == 41
