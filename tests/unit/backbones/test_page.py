"""Compare docs/backbones.md with the code and with open_clip's list of models."""

import re
from pathlib import Path

import open_clip
import yaml

from kanoclip.backbones.descriptions import model_names, models_tables
from kanoclip.backbones.weights import register_embedded
from kanoclip.config import BackboneConfig, parse

PAGE = (Path(__file__).parents[3] / "docs/backbones.md").read_text(encoding="utf-8")
PRINT = "from kanoclip.backbones.descriptions import models_tables; print(*models_tables(), sep='\\n\\n')"


def test_the_tables_equal_those_of_the_code() -> None:
    for table in models_tables():
        assert table in PAGE, f'replace the tables of docs/backbones.md by the output of: python -c "{PRINT}"'


def test_every_model_of_open_clip_is_named_once() -> None:
    register_embedded()
    usable, refused = models_tables()
    first = re.findall(r"^\| `([^`]+)` \|", usable, re.MULTILINE)
    other = [name for row in refused.splitlines() for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(first + other) == sorted(open_clip.list_models())
    assert first == model_names()


def test_examples_are_valid() -> None:
    examples = [yaml.safe_load(text)["backbones"] for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    assert len(examples) == 2
    for example in examples:
        for name, settings in example.items():
            config = parse(BackboneConfig, settings, name)
            assert config.model in model_names()
            if not config.weights.startswith("random"):
                assert config.weights in open_clip.list_pretrained_tags_by_model(config.model)
