"""Compare config/extended.yaml with the registry of methods."""

import re
from pathlib import Path
from typing import Any

import yaml

from kanoclip.config import Configuration, parse
from kanoclip.methods import method_names
from kanoclip.protocol import describe

TEXT = (Path(__file__).parents[2] / "config/extended.yaml").read_text()
NEEDS_WEIGHTS = ("crane_plus",)  # commented out, because it needs a second tower


def configuration(text: str) -> Configuration:
    return parse(Configuration, yaml.safe_load(text), "extended.yaml")


def methods(config: Configuration) -> set[str]:
    return {row.method for row in describe(config).rows}


def with_the_commented_lines() -> str:
    return re.sub(r"^( +)# (towers|crane_plus):", r"\1\2:", TEXT, flags=re.MULTILINE)


def test_every_registered_method_is_a_row() -> None:
    assert methods(configuration(TEXT)) == set(method_names()) - set(NEEDS_WEIGHTS)
    assert methods(configuration(with_the_commented_lines())) == set(method_names())


def test_rows_of_the_quickstart_have_the_same_options() -> None:
    quickstart: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "config/quickstart.yaml").read_text())
    extended: dict[str, Any] = yaml.safe_load(TEXT)
    for key in ("backbone", "auxiliary", "auxiliary_for", "targets", "seeds", "datasets"):
        assert extended[key] == quickstart[key]
    shared = extended["methods"].keys() & quickstart["methods"].keys()
    assert {"clip", "kanoclip"} <= shared
    assert {name: extended["methods"][name] for name in shared} == {
        name: quickstart["methods"][name] for name in shared
    }
