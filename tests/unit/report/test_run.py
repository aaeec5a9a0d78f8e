"""Test protocol.json, the facts that a table states about its run."""

from datetime import date

import pytest

from kanoclip.config import Configuration, parse
from kanoclip.files import write_text
from kanoclip.protocol import describe
from kanoclip.run import read_run
from kanoclip.types import InputError

TODAY = date(2025, 1, 31)


@pytest.fixture
def run():
    values = {
        "backbones": {
            "large": {"model": "ViT-L-14", "weights": "openai", "image_size": 336},
            "blank": {"model": "ViT-B-16", "weights": "random:0", "image_size": 224},
            "idle": {"model": "ViT-B-32"},
        },
        "backbone": "large",
        "targets": ["visa", "headct", "mine"],
        "datasets": {"mine": {"path": "somewhere", "limit": 5}, "visa": {"limit": 5}, "headct": {"limit": 7}},
        "methods": {"clip": None, "blind": {"method": "clip", "backbone": "blank"}, "oracle": None},
        "ablations": {"parts": {"clip": None, "short": {"method": "kanoclip", "epochs": 2}}},
        "evaluation": {"resolution": 256},
    }
    return describe(parse(Configuration, values, "configuration"))


def test_a_run_is_described_from_its_configuration(run):
    assert run.main == ("clip", "blind", "oracle") and run.ablations == {"parts": ("clip", "short")}
    assert [row.name for row in run.rows] == ["clip", "blind", "oracle", "short"]
    assert run.controls == ["blind", "oracle"]  # rows with random weights are controls and not ranked
    assert run.titles == {"visa": "VisA", "headct": "HeadCT", "mine": "mine"}
    assert run.titles_of("medical") == {"headct": "HeadCT"} and run.titles_of("industrial") == {"visa": "VisA"}
    assert run.rows[3].options == {"epochs": 2}


def test_figures_show_no_controls_and_at_most_so_many_rows(run):
    assert run.shown(24) == ["clip"]
    every = run.model_copy(update={"main": ("clip", "short", "oracle", "short", "clip", "short")})
    assert every.shown(5) == ["clip", "short", "short", "clip", "short"]
    assert every.shown(3) == ["clip", "short", "short"]  # the first two and the last
    assert run.model_copy(update={"main": ("blind", "oracle")}).shown(24) == ["blind", "oracle"]


def test_facts_describe_the_rows_of_the_table(run):
    assert run.facts(["clip", "blind"], TODAY) == [
        "large: model ViT-L-14, weights openai, image size 336 x 336",
        "blank: model ViT-B-16, weights random:0, image size 224 x 224",
        "maps evaluated at 256 x 256",
        "at most 5 images per class and label of visa, mine",
        "at most 7 images per class and label of headct",
        f"made on 2025-01-31 by kanoclip {run.version}",
    ]
    assert not any("blank" in fact for fact in run.facts(["short"], TODAY))


def test_a_run_survives_a_round_trip_through_its_file(run, tmp_path):
    write_text(tmp_path / "protocol.json", run.model_dump_json())
    assert read_run(tmp_path / "protocol.json") == run
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match=r"other\.json: 'version': field required"):
        read_run(tmp_path / "other.json")
    with pytest.raises(InputError, match=r"none\.json: expected a file written by kanoclip protocol"):
        read_run(tmp_path / "none.json")
