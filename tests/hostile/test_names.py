"""Names that are commands, paths, patterns or markup are refused in the input and escaped in the output."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kanoclip.config import Configuration, parse
from kanoclip.naming import printable
from kanoclip.report.formats import _markdown, _tex
from kanoclip.types import InputError

ROOT = Path(__file__).parents[2]
NAMES = json.loads(Path(__file__).with_name("names.json").read_text(encoding="utf-8"))
GOOD = {"targets": ["visa"], "methods": {"clip": None}}
PLACES = {
    "row": lambda name: {"methods": {name: {"method": "clip"}}},
    "backbone": lambda name: {"backbones": {name: {}}},
    "dataset": lambda name: {"datasets": {name: {"path": "x"}}},
    "ablation": lambda name: {"ablations": {name: {"clip": None}}},
    "row of an ablation": lambda name: {"ablations": {"a": {name: {"method": "clip"}}}},
    "auxiliary": lambda name: {"auxiliary": name},
    "target": lambda name: {"targets": [name]},
}


@pytest.mark.parametrize("place", PLACES)
def test_every_hostile_name_is_refused_in_one_line(place: str) -> None:
    for name in NAMES:
        with pytest.raises(InputError) as caught:
            parse(Configuration, GOOD | PLACES[place](name), "configuration")
        assert str(caught.value).isprintable(), name


@pytest.mark.parametrize("name", ["clip-l14-518", "my_parts", "v1.2", "A+B", "7"])
def test_plain_names_are_accepted(name: str) -> None:
    for place in PLACES.values():
        parse(Configuration, GOOD | place(name), "configuration")


def test_a_name_that_is_a_command_is_never_executed(tmp_path: Path) -> None:
    """The workflow reports the name in one line and does not execute it."""
    hostile = GOOD | {"targets": ["a b;touch PWNED"], "datasets": {"a b;touch PWNED": {"path": str(tmp_path)}}}
    (tmp_path / "hostile.yaml").write_text(yaml.safe_dump(hostile))
    command = [sys.executable, "-m", "snakemake", "-n", "-s", str(ROOT / "Snakefile"), "--configfile", "hostile.yaml"]
    result = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode != 0 and not (tmp_path / "PWNED").exists()
    assert "expected a name of at most" in result.stdout and "Traceback" not in result.stdout


def test_every_value_in_a_shell_command_is_quoted() -> None:
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        text = path.read_text()
        for command in re.findall(r"shell:\n((?: +\".*\"\n?)+)", text):
            for field in re.findall(r"\{([^{}]+)\}", command):
                assert field.endswith(":q") or field == "threads", f"{path.name}: {{{field}}}"


def test_names_in_tables_are_escaped() -> None:
    assert _tex("a^b~c\\d|e") == r"a\textasciicircum{}b\textasciitilde{}c\textbackslash{}d\textbar{}e"
    assert _markdown("a|b\n<img src=x onerror=alert(1)>") == r"a\|b &lt;img src=x onerror=alert(1)>"
    assert printable("a\nb\u202ec") == r"a\nb\u202ec"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [1, 1]}, "1 is given twice"),
        ({"targets": ["visa", "visa"]}, "visa is given twice"),
        ({"seeds": [2**64]}, "less than or equal to 4294967295"),
        ({"resources": "a{b}"}, "a path without braces"),
        ({"datasets": {"a": {"path": "x", "class_names": {"b": "mean"}}}}, "cannot be the name of a class"),
    ],
)
def test_values_that_would_fail_later_are_refused_in_the_configuration(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(Configuration, GOOD | change, "configuration")
