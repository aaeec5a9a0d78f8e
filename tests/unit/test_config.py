import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from kanoclip.config import BackboneConfig, Configuration, parse
from kanoclip.methods import method_class
from kanoclip.schema import configuration_readme, configuration_schema
from kanoclip.types import InputError, unknown_name

ROOT = Path(__file__).parents[2]
MINIMAL = {"targets": ["visa"], "methods": {"clip": None}}


def refusal(values: dict[str, object]) -> str:
    with pytest.raises(InputError) as caught:
        parse(Configuration, values, "configuration")
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_fill_missing_keys() -> None:
    config = parse(Configuration, MINIMAL, "configuration")
    assert config.backbones["clip-l14-518"].image_size == 518
    assert config.methods["clip"].options == {}
    assert config.auxiliary_for == {"mvtec_ad": "visa"}
    assert config.cache == ("auxiliary",) and config.only == ()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (MINIMAL | {"targts": []}, ["unknown key 'targts'", "did you mean 'targets'?"]),
        (MINIMAL | {"backbones": {"a": {"image_sise": 3}}}, ["'backbones.a.image_sise'", "did you mean 'image_size'?"]),
        (MINIMAL | {"evaluation": {"resolutions": 3}}, ["did you mean 'resolution'?"]),
        (MINIMAL | {"zzz": 1}, ["unknown key 'zzz'", "known keys: run, folder"]),
        ({"methods": {"clip": {}}}, ["expected targets, or a folder, found none"]),
        (MINIMAL | {"seeds": ["x"]}, ["'seeds.0'", "valid integer", "found 'x'"]),
        (MINIMAL | {"backbones": {"a": {"taps": [6, 3]}}}, ["'backbones.a.taps'", "ascending", "found [6, 3]"]),
        (MINIMAL | {"run": "a/b"}, ["'run'", "match pattern"]),
        (MINIMAL | {"cache": ["target"]}, ["'cache.0'", "'auxiliary' or 'targets'", "found 'target'"]),
    ],
)
def test_mistakes_give_one_helpful_line(values: dict[str, object], words: list[str]) -> None:
    message = refusal(values)
    for word in words:
        assert word in message


def test_method_options_are_checked_by_the_method() -> None:
    with pytest.raises(InputError, match="unknown key 'epoch'; did you mean 'epochs'?"):
        parse(method_class("kanoclip").Options, {"epoch": 3}, "methods.kanoclip")


def test_the_error_on_an_unknown_name_suggests_the_nearest_or_lists_all() -> None:
    assert str(unknown_name("method", "kanoklip", ["clip", "kanoclip"])).endswith("did you mean 'kanoclip'?")
    assert str(unknown_name("method", "zzz", ["b", "a"])).endswith("known: a, b")


def test_every_key_has_a_description() -> None:
    for model in (Configuration, BackboneConfig):
        for key, field in model.model_fields.items():
            assert field.description or key == "evaluation", key


def test_config_readme_names_every_key() -> None:
    text = (ROOT / "config/README.md").read_text()
    keys = {*Configuration.model_fields, *BackboneConfig.model_fields, *method_class("kanoclip").Options.model_fields}
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path: Path) -> None:
    config = parse(Configuration, yaml.safe_load(path.read_text()), path.name)
    assert config.run


def test_the_name_of_an_embedded_backbone_cannot_be_hidden() -> None:
    """Tables recognise results of the embedded backbone by its name, so a configuration cannot rename it freely."""
    hidden = MINIMAL | {"backbones": {"big": {"model": "kanoclip-tiny"}}}
    assert "the name 'big' must begin with 'kanoclip-tiny'" in refusal(hidden)


def test_schema_and_readme_are_generated() -> None:
    committed = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert committed == json.loads(json.dumps(configuration_schema())), "run: make generated"
    assert (ROOT / "config/README.md").read_text() == configuration_readme(), "run: make generated"


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_the_schema_accepts_what_the_code_accepts(path: Path) -> None:
    schema = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    values = yaml.safe_load(path.read_text())
    jsonschema.validate(values, schema)
    for wrong in ({"tragets": []}, {"methods": {"clip": {"temprature": 1}}}, {"seeds": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(values | wrong, schema)
