"""Compare the cached expansion of a configuration with the protocol computed from it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kanoclip import protocol
from kanoclip.config import Configuration, parse
from kanoclip.expansion import expand
from kanoclip.rows import SHIPPED
from kanoclip.types import InputError
from kanoclip.user_cache import KEPT, remembered

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kanoclip"


def configuration(name: str) -> Configuration:
    return parse(Configuration, yaml.safe_load((ROOT / "config" / name).read_text()), name)


@pytest.mark.parametrize("name", ["quickstart.yaml", "config.yaml", "folder.yaml"])
def test_a_cached_expansion_equals_the_protocol(name: str) -> None:
    config = configuration(name)
    computed, kept = expand(config), expand(config)
    assert computed == kept == protocol.describe(config)


def test_a_changed_configuration_gives_another_expansion() -> None:
    config = configuration("quickstart.yaml")
    fewer = config.model_copy(update={"seeds": (111,)})
    assert {len(one.seeds) for one in expand(fewer).trainings} == {1}
    assert {len(one.seeds) for one in expand(config).trainings} == {3}


def test_a_changed_checkpoint_gives_another_expansion(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    shutil.copy(SHIPPED, file)
    values = yaml.safe_load((ROOT / "config/folder.yaml").read_text())
    values["methods"]["kanoclip"]["checkpoint"] = str(file)
    config = parse(Configuration, values, "own")
    assert expand(config).row("kanoclip").checkpoint.auxiliary == "synthetic_auxiliary"
    file.write_bytes(b"something else")
    with pytest.raises(InputError, match="found another kind of file"):
        expand(config)


def test_torch_is_imported_only_the_first_time(cache: Path) -> None:
    code = """
import json, sys, yaml
from kanoclip.config import Configuration, parse
from kanoclip.expansion import expand
expand(parse(Configuration, yaml.safe_load(open("config/quickstart.yaml")), ""))
print(json.dumps("torch" in sys.modules))
"""
    for expected in (True, False):
        output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout
        assert json.loads(output) is expected


def test_mistakes_are_not_cached(cache: Path) -> None:
    config = configuration("quickstart.yaml").model_copy(update={"targets": ("elpw",)})
    for _ in range(2):
        with pytest.raises(InputError, match="unknown dataset 'elpw'; did you mean 'elpv'"):
            expand(config)
    assert not list(cache.glob("runs/*.json"))


def test_results_are_computed_once_and_the_oldest_is_dropped(cache: Path) -> None:
    calls: list[int] = []

    def compute(number: int) -> int:
        calls.append(number)
        return number

    for number in [*range(KEPT + 5), KEPT]:
        assert remembered("numbers", str(number), lambda number=number: compute(number)) == number
    assert calls == list(range(KEPT + 5))
    assert len(list((cache / "numbers").glob("*.json"))) == KEPT


@pytest.mark.parametrize("content", [None, "{", ""])
def test_an_unusable_cache_only_costs_time(cache: Path, content: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if content is None:  # the folder cannot be created
        cache.write_text("a file")
    else:
        (cache / "numbers").mkdir(parents=True)
        (cache / "numbers/1.json").write_text(content)
    assert remembered("numbers", "1", lambda: 7) == 7
