from pathlib import Path

import pytest

from kanoclip.knowledge.sources import curated
from kanoclip.knowledge.store import Description, read_knowledge, write_knowledge
from kanoclip.types import InputError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "knowledge.jsonl"
    lines = [
        Description("nut", "curated", "A nut with a “bent” flange."),
        Description("bolt", "vqa", "A bolt, cut through.", image="a.png", model="some-model", prompt_hash="ab12"),
        Description("nut", "curated", "A rusty nut."),
    ]
    write_knowledge(path, lines)
    assert len(path.read_text().splitlines()) == 3
    assert read_knowledge(path, ["bolt", "nut"]) == {
        "bolt": ["A bolt, cut through."],
        "nut": ["A nut with a “bent” flange.", "A rusty nut."],
    }
    with pytest.raises(InputError, match="no description of washer"):
        read_knowledge(path, ["nut", "washer"])


def test_a_class_without_text_gets_the_generic_sentences(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="kanoclip")
    own, other = (curated("mvtec_ad", [name]) for name in ("bottle", "flux capacitor"))
    assert "no curated text for 'flux capacitor'" in caplog.text and "'bottle'" not in caplog.text
    assert len(own) >= 5 and len(other) >= 5
    assert all("flux capacitor" in line.text for line in other)
    assert {line.source for line in own + other} == {"curated"}
