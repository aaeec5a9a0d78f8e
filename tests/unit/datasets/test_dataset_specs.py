"""Specs are found by scanning, checked strictly, and take class names from the common table."""

import pytest

from kanoclip.datasets import specs
from kanoclip.datasets.specs import dataset_names, folder_spec, load_spec
from kanoclip.types import InputError

SPEC = """\
title: Bolts
domain: industrial
source: {kind: manual, where: https://example.org, what: the archive}
layout: mvtec
classes: [hex_bolt]
masks: true
licence: CC0
citation: none
"""


@pytest.fixture
def bolts(tmp_path, monkeypatch):
    monkeypatch.setattr(specs, "SPECS", tmp_path)
    (tmp_path / "bolts.yaml").write_text(SPEC)
    return tmp_path / "bolts.yaml"


def test_one_yaml_file_defines_a_dataset(bolts):
    assert dataset_names() == ["bolts"]
    spec = load_spec("bolts")
    assert (spec.name, spec.title, spec.class_name("hex_bolt")) == ("bolts", "Bolts", "hex bolt")


def test_the_error_on_an_unknown_dataset_suggests_the_nearest():
    with pytest.raises(InputError, match="unknown dataset 'mvtecad'; did you mean 'mvtec_ad'?"):
        load_spec("mvtecad")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("masks: true", "masks: perhaps", "masks: "),
        ("licence: CC0", "license: CC0", "licence: Field required"),
        ("kind: manual", "kind: manuel", "source: .*'manuel'"),
        ("title: Bolts", "title: [", "not YAML"),
        ("citation: none", "citation: none\ncolour: red", "colour: Extra inputs"),
    ],
)
def test_wrong_spec_is_refused_in_one_line(bolts, old, new, message):
    bolts.write_text(SPEC.replace(old, new))
    with pytest.raises(InputError, match=f"bolts.yaml: {message}") as caught:
        load_spec("bolts")
    assert "\n" not in str(caught.value)


def test_class_names_of_a_folder_can_be_configured():
    spec = folder_spec("mine", {"01": "hex bolt"})
    assert spec.class_name("01") == "hex bolt"
    assert spec.class_name("wing_nut") == "wing nut"


def test_two_classes_with_the_same_name_are_refused():
    with pytest.raises(InputError, match="dataset mine: .*share the name 'bolt'"):
        folder_spec("mine", {"01": "bolt", "02": "bolt"})
