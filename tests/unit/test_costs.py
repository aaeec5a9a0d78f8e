"""Measure the cost of passes and trainings where it arises, so that a cached rerun does not replace it."""

import json
from pathlib import Path
from typing import Any

import pytest

from kanoclip.config import BackboneConfig
from kanoclip.measuring import process_cost
from kanoclip.methods import AnomalyOutput, Batch
from kanoclip.methods.clip import Clip
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.scoring import Scored, score_stage


@pytest.fixture
def live(index: Path, tiny_config: BackboneConfig) -> Dataset:
    return Dataset("parts", index, backbone=tiny_config)


def score(names: list[str], data: Dataset, out: Path) -> dict[str, dict[str, Any]]:
    """Score rows in one pass, and return their costs."""
    rows = [Scored(name, name, out / name) for name in names]
    score_stage(rows, data, "tiny", "cpu", out / "store", batch_size=4)
    return {name: json.loads((out / name / "cost.json").read_text()) for name in names}


def test_the_process_started_before_and_takes_memory() -> None:
    first, _ = process_cost()
    block = bytearray(2**28)  # 256 MB, written
    second, memory = process_cost()
    assert 0 < first < second and memory > len(block) / 2**20


def test_rows_remember_the_pass_that_scored_them(live: Dataset, tmp_path: Path) -> None:
    first = score(["clip", "clip_ac"], live, tmp_path)
    again = score(["clip", "clip_ac", "winclip"], live, tmp_path)
    assert first["clip"]["pass"] == first["clip_ac"]["pass"] != again["winclip"]["pass"]
    assert {name: again[name] for name in first} == first  # nothing of the first pass was measured again
    for cost in again.values():
        assert cost["pass_seconds"] > cost["seconds"] and cost["pass_peak_memory_mb"] > 0


def test_the_seconds_of_a_resumed_pass_are_not_known(
    live: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = Clip.forward, 0

    def cut_off(self: Clip, batch: Batch) -> AnomalyOutput:
        nonlocal calls
        calls += 1
        if calls == 3:  # of four batches
            raise KeyboardInterrupt
        return forward(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Clip, "forward", cut_off)
        score(["clip"], live, tmp_path)
    found = score(["clip"], live, tmp_path)["clip"]
    assert (found["pass_seconds"], found["pass_peak_memory_mb"]) == (None, None) and found["seconds"] > 0
