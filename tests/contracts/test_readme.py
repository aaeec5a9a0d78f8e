"""The commands of the README work as they stand there."""

import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kanoclip import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]


def test_every_stage_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").symlink_to(ROOT / "config")
    # the plan of the paper is refused where the disk cannot hold its features
    monkeypatch.setattr("kanoclip.plan.shutil.disk_usage", lambda path: SimpleNamespace(free=10**12))
    commands = [line for line in LINES if line.startswith("kanoclip ") and "PATH" not in line]
    assert len(commands) >= 6
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code in (0, None), command
    for made in ("index.csv", "features.h5", "scores/clip/scores.h5", "scores/clip/metrics.csv"):
        assert (tmp_path / made).is_file(), made


def test_make_targets_and_files_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in LINES:
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"--configfile (\S+)", README):
        assert (ROOT / path).is_file(), path
