"""Follow the tutorial of a method, command by command, in a copy of the project; minutes, so a slow test."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial-method.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"^```python\n# (kanoclip/methods/\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COPIED = ["Snakefile", "Makefile", "README.md", "environment.yml", "workflow", "profiles", "kanoclip", "config", "docs"]
REFUSED = "temprature"  # the command with this misspelt option fails, as the page says


@pytest.mark.slow
def test_every_command_of_the_tutorial_works(tmp_path: Path) -> None:
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    ((place, content),) = EXAMPLE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    (tmp_path / place).write_text(content, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    program = f'#!/bin/sh\nexec {sys.executable} -m kanoclip "$@"\n'
    (tmp_path / "bin/kanoclip").write_text(program)  # import the copy, not the installed package
    (tmp_path / "bin/kanoclip").chmod(0o755)
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "PATH": f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    recipe = (ROOT / "Makefile").read_text().split("\ngenerated:")[1].split("\n\n")[0].splitlines()[1:]
    outputs = []
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        if "make install" in block:  # its packages are already installed
            continue
        script = "set -e\n" + block.replace("make generated", "\n".join(recipe))
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
        outputs.append(done.stdout)
        if REFUSED in block:
            assert done.returncode != 0 and "did you mean 'temperature'?" in done.stdout + done.stderr
        else:
            assert done.returncode == 0, (block, done.stderr[-3000:])
    printed = next(text for text in outputs if "| local_stream" in text)
    for name, *values in re.findall(
        r"^\| (clip|clip_ac|local_stream) \| (\S+) / (\S+) \| (\S+) \| (\S+) \|$", PAGE, re.M
    ):
        row = next(line for line in printed.splitlines() if line.startswith(f"| {name} "))
        found = [cell.strip(" *") for cell in re.sub(r"</?u>", "", row).split("|")[2:7]]
        assert [found[0], found[1], found[2], found[4]] == values, name
