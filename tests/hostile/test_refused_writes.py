"""On a read-only folder or a full disk, each command fails with one line and leaves no partial file."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import asdict
from datetime import date
from pathlib import Path

import pytest
from made import SIDE, Made, make

from kanoclip.config import Configuration, parse
from kanoclip.expansion import expand
from kanoclip.files import write_json
from kanoclip.report.tables import write_tables

DATA = "--index {index} --features {features}"
COMMANDS = {
    "prepare": "prepare --dataset parts --path {images} --out {out}/index.csv",
    "knowledge": "knowledge --dataset parts --index {index} --out {out}/knowledge.jsonl",
    "encode": "encode --index {index} --tap cls/4 --tap vv/4 --out {out}/features.h5"
    " --set model=kanoclip-tiny --set weights=random:0 --set image_size={side}",
    "train": f"train --method april_gan --set epochs=1 --knowledge {{knowledge}} {DATA} --auxiliary parts"
    " --out {out}/models",
    "score": f"score --method clip {DATA} --out {{out}}/scores",
    "evaluate": "evaluate {out}/scored --index {index} --store {out}/store",
    "evaluate without a store": "evaluate {out}/scored --index {index}",
    "protocol": "protocol --set targets=[visa] --set 'methods={{clip: }}' --out {out}/protocol.json",
    "tables": "tables {metrics} --protocol {protocol} --out {out}/tables",
    "figure": "figure bars={out}/bars.png --metrics {metrics} --methods clip --datasets parts",
    "page": "page --table {table} --title run --out {out}/index.html",
    "predict": "predict {images} --method clip --backbone kanoclip-tiny --weights random:0 --image-size {side}"
    " --out {out}/predictions",
    "log": "--log {out}/log list metrics",
}


def commands(made: Made, out: Path) -> dict[str, list[str]]:
    """Return the command of every stage, with all its outputs below a folder."""
    beside = {
        "images": made.index.with_name("images"),
        "protocol": made.index.with_name("protocol.json"),
        "table": made.index.with_name("tables") / "main.html",
    }
    return {
        name: shlex.split(text.format(**asdict(made), **beside, out=out, side=SIDE)) for name, text in COMMANDS.items()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = make(tmp_path_factory.mktemp("made"))
    values = {"targets": ["parts"], "methods": {"clip": None}, "datasets": {"parts": {"path": "images"}}}
    run = expand(parse(Configuration, values, "configuration"))
    write_json(made.index.with_name("protocol.json"), run.model_dump(mode="json"))
    write_tables([made.metrics], made.index.with_name("tables"), run, [], date(2026, 1, 1))
    return made


def refused(given: dict[str, list[str]], largest: int | None) -> dict[str, tuple[int, str]]:
    """Return the output of each command."""
    root = Path(__file__).parents[2]
    script = str(Path(__file__).with_name("run_refused.py"))
    asked = json.dumps({"commands": list(given.values()), "largest": largest})
    done = subprocess.run(
        [sys.executable, script],
        input=asked,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    if "cannot drop a capability" in done.stderr:
        pytest.skip("root keeps the capability to write anywhere, and there is no other user to test as")
    assert done.returncode == 0, done.stderr
    return dict(zip(given, map(tuple, json.loads(done.stdout)), strict=True))


def folder(made: Made, path: Path) -> Path:
    """Return an output folder that contains scores; `evaluate` writes beside them."""
    (path / "scored").mkdir(parents=True)
    (path / "scored/scores.h5").write_bytes(made.scores.read_bytes())
    return path


def test_a_read_only_folder_is_reported_in_one_line(made: Made, tmp_path: Path) -> None:
    out = folder(made, tmp_path / "out")
    before = sorted(out.rglob("*"))
    for path in (out / "scored", out):
        path.chmod(0o555)
    try:
        said = refused(commands(made, out), None)
    finally:
        for path in (out, out / "scored"):
            path.chmod(0o755)
    for name, (code, text) in said.items():
        line = one_line(name, code, text)
        assert str(out) in line and "Permission denied" in line and "free space" not in line, line
    assert sorted(out.rglob("*")) == before


@pytest.mark.parametrize("largest", [0, 1000, 5000])
def test_a_full_disk_is_reported_in_one_line(made: Made, tmp_path: Path, largest: int) -> None:
    """Limit the size of every file: scores.h5 and map.npy need more than 5000 bytes, an index fewer."""
    out = folder(made, tmp_path / "out")
    said = refused(commands(made, out), largest)
    assert {"encode", "train", "score", "tables", "figure", "page", "predict"} <= {
        name for name, (code, _) in said.items() if code != 0
    }
    for name, (code, text) in said.items():
        if code != 0:
            line = one_line(name, code, text)
            assert "File too large" in line and "free space" in line, line
            assert name == "log" or str(out) in line, line
    left = [path for path in out.rglob(".*") if path.is_file()]
    assert not left and not list(out.glob("scores/scores.h5")) and not list(out.glob("models/seed*"))


def one_line(name: str, code: int, text: str) -> str:
    """Return the last line of a command's output, which may follow log lines."""
    *_, line = text.strip().split("\n")
    assert code == 1 and line.startswith("error: ") and text.count("error: ") == 1, f"{name}: {code}: {text}"
    assert "Traceback" not in text, f"{name}: {text}"
    return line
