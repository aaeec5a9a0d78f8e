"""The tutorial of `kanoclip predict` and the examples of the Python API work as they stand."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kanoclip import cli

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_tutorial_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks("predict.md", "bash") for line in block.splitlines()]
    assert len(commands) >= 6 and all(command.startswith("kanoclip ") for command in commands)
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code in (0, None), command
    for folder in ("first", "second", "third", "clip_ac"):
        for made in ("index.html", "predictions.csv", "predictions.jsonl", "regions.coco.json"):
            assert (tmp_path / folder / made).is_file(), (folder, made)
    # calibration in the run and from the card gives the same decisions
    second, third = ((tmp_path / folder / "predictions.csv").read_text() for folder in ("second", "third"))
    assert second == third


def test_the_python_examples_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)).save("part.png")
    names: dict[str, object] = {}
    for block in blocks("python.md", "python"):
        exec(block, names)  # noqa: S102
    assert names["detector"].calibration.normals == 20  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", ["docs/predict.md", "docs/python.md", "kanoclip/predict/embedded/README.md"])
def test_links_point_to_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    headings = {re.sub(r"[^a-z0-9 -]", "", line.lower()).strip("# ").replace(" ", "-") for line in text.splitlines()}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        assert not path or ((ROOT / page).parent / path).exists(), target
        assert path or anchor in headings, target
