"""The commands of the README and of the pages that it links to work as they stand."""

import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kanoclip import cli

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/quickstart.md", "docs/workflow.md", "docs/protocol.md", "docs/index.md"]


def lines(page: str) -> list[str]:
    """Return the command lines of a page, without comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]


def test_every_stage_runs_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").symlink_to(ROOT / "config")
    # the plan of the paper is refused if its features do not fit on the disk
    monkeypatch.setattr("kanoclip.plan.shutil.disk_usage", lambda path: SimpleNamespace(free=10**12))
    commands = [line for page in PAGES for line in lines(page) if line.startswith("kanoclip ") and "PATH" not in line]
    assert len(commands) >= 9
    for command in dict.fromkeys(commands):
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code in (0, None), command
    for made in ("drawn/index.csv", "features.h5", "scores/clip/scores.h5", "scores/clip/metrics.csv"):
        assert (tmp_path / made).is_file(), made


def test_the_commands_for_your_own_images_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run them with folders in place of PATH and NORMALS."""
    monkeypatch.chdir(tmp_path)
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    (command,) = (line for line in lines("README.md") if line.startswith("kanoclip predict "))
    monkeypatch.setattr(sys, "argv", shlex.split(command.replace("PATH", "photos").replace("NORMALS", "photos")))
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code in (0, None)
    assert (tmp_path / "predictions/index.html").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_and_files_exist(page: str) -> None:
    makefile, text = (ROOT / "Makefile").read_text(), (ROOT / page).read_text()
    for target in re.findall(r"\bmake ([a-z-]+)(?= &&|`|  |$)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page).parent / path).exists(), path
    for path in re.findall(r"--configfile (\S+)", text):
        assert (ROOT / path).is_file(), path


def test_the_readme_fits_two_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 105
