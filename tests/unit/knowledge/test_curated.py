"""The shipped descriptions: complete, short enough for CLIP, about anomalies only."""

import pytest
import yaml
from open_clip.tokenizer import SimpleTokenizer

from kanoclip.datasets.specs import dataset_names, load_spec
from kanoclip.knowledge.sources import CURATED, curated

CONTEXT = 77  # tokens, start and end included
AUXILIARY = ["mvtec_ad", "visa", "synthetic_auxiliary"]
FILES = sorted(path.stem for path in CURATED.glob("*.yaml"))
LONGEST_NAME = max((cls for name in dataset_names() for cls in load_spec(name).class_names.values()), key=len)
CLASSES = [
    pytest.param(name, cls, id=f"{name}-{cls}") for name in AUXILIARY for cls in load_spec(name).class_names.values()
]


def sentences_of(name):
    table = yaml.safe_load((CURATED / f"{name}.yaml").read_text(encoding="utf-8"))
    return [sentence for sentences in table.values() for sentence in sentences]


@pytest.mark.parametrize(("dataset", "class_name"), CLASSES)
def test_each_auxiliary_class_has_at_least_five_texts_of_its_own(dataset, class_name, caplog):
    with caplog.at_level("INFO", logger="kanoclip"):
        descriptions = curated(dataset, [class_name])
    assert len(descriptions) >= 5
    assert {description.class_name for description in descriptions} == {class_name}
    assert "generic" not in caplog.text


@pytest.mark.parametrize("name", [name for name in FILES if name != "generic"])
def test_each_file_holds_exactly_the_classes_of_its_dataset(name):
    table = yaml.safe_load((CURATED / f"{name}.yaml").read_text(encoding="utf-8"))
    assert set(table) == set(load_spec(name).class_names.values())


def test_any_other_class_gets_the_generic_sentences_with_its_name():
    descriptions = curated("a_dataset_of_mine", ["teapot"])
    assert len(descriptions) >= 5
    assert all("teapot" in description.text and "{}" not in description.text for description in descriptions)


@pytest.mark.parametrize("name", FILES)
def test_every_sentence_fits_into_clip(name):
    encode = SimpleTokenizer().encode
    too_long = [text for text in sentences_of(name) if len(encode(text.format(LONGEST_NAME))) + 2 > CONTEXT]
    assert too_long == []


@pytest.mark.parametrize("name", FILES)
def test_no_sentence_appears_twice(name):
    sentences = [sentence.lower() for sentence in sentences_of(name)]
    assert len(sentences) == len(set(sentences))


@pytest.mark.parametrize("name", FILES)
def test_every_text_is_one_sentence_about_an_anomaly(name):
    for sentence in sentences_of(name):
        assert sentence[0].isupper() and sentence.endswith(".") and sentence.count(". ") == 0, sentence
        assert "normal" not in sentence.lower(), sentence
