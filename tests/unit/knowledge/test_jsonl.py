import json
from pathlib import Path

import pytest

from kanoclip.knowledge.jsonl import (
    Description,
    read_descriptions,
    read_image_knowledge,
    read_knowledge,
    write_knowledge,
)
from kanoclip.types import InputError

LINES = [
    Description("nut", "curated", "A nut with a “bent” flange."),
    Description("bolt", "vqa", "A bolt, cut through.", image="a.png", model="some-model", prompt_hash="ab12"),
    Description("nut", "curated", "An even nut.", state="normal"),
    Description("nut", "mask", "There is a crack on the nut.", image="b.png"),
    Description("nut", "vqa", "A nut with a crack.", image="b.png", date="2026-01-31", note="empty; asked again"),
    Description("nut", "curated", "The nut lies on\u2028a plain ground.", state="background"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_knowledge(tmp_path / "knowledge.jsonl", LINES)
    return tmp_path / "knowledge.jsonl"


def test_descriptions_are_read_as_written(path: Path) -> None:
    assert read_descriptions(path) == LINES
    assert [json.loads(line)["text"] for line in path.read_text().split("\n") if line] == [line.text for line in LINES]


def test_a_line_of_an_older_version_is_as_it_was(path: Path) -> None:
    written = path.read_text().split("\n")[3]
    assert written == (
        '{"class_name": "nut", "source": "mask", "text": "There is a crack on the nut.", "state": "abnormal", '
        '"image": "b.png", "model": "", "prompt_hash": "", "number": 0, "date": "", "note": "", '
        '"digest": "e811f97dfcc28936"}'
    )


def test_every_line_records_its_source(path: Path) -> None:
    for line in path.read_text().split("\n")[:-1]:
        assert {"source", "model", "prompt_hash", "class_name", "image", "date"} <= set(json.loads(line))


def test_only_abnormal_descriptions_are_learned_from(path: Path) -> None:
    assert read_knowledge(path, ["bolt", "nut"]) == {
        "bolt": ["A bolt, cut through."],
        "nut": ["A nut with a “bent” flange.", "There is a crack on the nut.", "A nut with a crack."],
    }
    assert read_image_knowledge(path) == {
        "a.png": ["A bolt, cut through."],
        "b.png": ["There is a crack on the nut.", "A nut with a crack."],
    }


def test_a_class_without_abnormal_descriptions_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="no description of washer"):
        read_knowledge(path, ["nut", "washer"])
    write_knowledge(path, [Description("nut", "curated", "An even nut.", state="normal")])
    with pytest.raises(InputError, match="no description of nut"):
        read_knowledge(path, ["nut"])


@pytest.mark.parametrize("line", ["{", "[]", '{"class_name": "nut"}', '{"class_name": "nut", "colour": "red"}'])
def test_the_error_names_a_wrong_line(path: Path, line: str) -> None:
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match=r"knowledge\.jsonl, line 7: expected a description in JSON"):
        read_descriptions(path)


def test_an_edited_line_is_accepted_only_without_its_digest(path: Path) -> None:
    lines = path.read_text().replace("cut through", "cut in two").split("\n")
    path.write_text("\n".join(lines))
    with pytest.raises(
        InputError, match=r'knowledge\.jsonl, line 2: .* found another; .* delete "digest" from the line'
    ):
        read_descriptions(path)
    edited = json.loads(lines[1])
    del edited["digest"]
    path.write_text("\n".join([lines[0], json.dumps(edited), *lines[2:]]))
    assert read_descriptions(path)[1].text == "A bolt, cut in two."


def test_an_empty_file_gives_no_descriptions(tmp_path: Path) -> None:
    write_knowledge(tmp_path / "empty.jsonl", [])
    assert read_descriptions(tmp_path / "empty.jsonl") == []
