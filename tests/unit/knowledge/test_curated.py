"""The descriptions in the package are complete, short enough for CLIP, and each names its class and state."""

import re

import pytest
import yaml
from open_clip.tokenizer import SimpleTokenizer

from kanoclip.datasets.specs import dataset_names, load_spec
from kanoclip.knowledge.sources import CURATED, curated

CONTEXT = 77  # tokens, including start and end
TABLES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CURATED.glob("*.yaml"))}
CLASSES = [pytest.param(name, cls, id=f"{name}-{cls}") for name, table in TABLES.items() for cls in table]
LONGEST_NAME = max((cls for name in dataset_names() for cls in load_spec(name).class_names.values()), key=len)


def sentences(name):
    entries = TABLES[name].values()
    return [text for entry in entries for text in [*entry["abnormal"], *entry["normal"], entry["background"]]]


def test_every_shipped_dataset_has_its_file():
    missing = set(dataset_names()) - set(TABLES)
    assert not missing, f"write kanoclip/knowledge/curated/<dataset>.yaml (CONTRIBUTING) for: {sorted(missing)}"
    assert set(TABLES) == {*dataset_names(), "generic"}


@pytest.mark.parametrize("name", dataset_names())
def test_each_file_holds_exactly_the_classes_of_its_dataset(name):
    assert name in TABLES, f"write kanoclip/knowledge/curated/{name}.yaml (CONTRIBUTING)"
    assert set(TABLES[name]) == set(load_spec(name).class_names.values())


@pytest.mark.parametrize(("dataset", "class_name"), CLASSES)
def test_each_class_has_enough_sentences_per_state(dataset, class_name):
    entry = TABLES[dataset][class_name]
    assert set(entry) == {"abnormal", "normal", "background"}
    assert len(entry["abnormal"]) >= 5 and len(entry["normal"]) >= 2
    assert isinstance(entry["background"], str)


@pytest.mark.parametrize(("dataset", "class_name"), CLASSES)
def test_each_sentence_names_its_class(dataset, class_name):
    bare = re.sub(r" \d+$", "", class_name)  # VisA's macaroni 1: the number only separates classes
    entry = TABLES[dataset][class_name]
    for text in [*entry["abnormal"], *entry["normal"], entry["background"]]:
        assert bare in text.lower(), text


def test_a_class_gets_its_own_texts_per_state():
    descriptions = curated("mvtec_ad", ["bottle", "wood"])
    assert [line.text for line in descriptions if line.class_name == "bottle" and line.state == "abnormal"] == (
        TABLES["mvtec_ad"]["bottle"]["abnormal"]
    )
    assert {(line.class_name, line.state) for line in descriptions} == {
        (name, state) for name in ("bottle", "wood") for state in ("abnormal", "normal", "background")
    }
    assert {(line.source, line.image, line.model, line.date) for line in descriptions} == {("curated", "", "", "")}


def test_any_other_class_gets_the_generic_sentences_with_its_name():
    descriptions = curated("a_dataset_of_mine", ["teapot"])
    assert len(descriptions) == len(sentences("generic"))
    assert all("teapot" in description.text and "{}" not in description.text for description in descriptions)


@pytest.mark.parametrize("name", TABLES)
def test_every_sentence_fits_in_clips_context(name):
    encode = SimpleTokenizer().encode
    too_long = [text for text in sentences(name) if len(encode(text.format(LONGEST_NAME))) + 2 > CONTEXT]
    assert too_long == []


@pytest.mark.parametrize("name", TABLES)
def test_no_sentence_appears_twice(name):
    lowered = [text.lower() for text in sentences(name)]
    assert len(lowered) == len(set(lowered))


@pytest.mark.parametrize("name", TABLES)
def test_every_text_is_one_sentence(name):
    for text in sentences(name):
        assert text[0] in "{ABCDEFGHIJKLMNOPQRSTUVWXYZ" and text.endswith("."), text
        assert len(re.findall(r"[.!?]", text)) == 1 and text == " ".join(text.split()), text


@pytest.mark.parametrize("name", TABLES)
def test_abnormal_texts_never_mention_normality(name):
    for entry in TABLES[name].values():
        assert [text for text in entry["abnormal"] if "normal" in text.lower()] == []
