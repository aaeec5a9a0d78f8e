"""Compare the cost of a run with values by hand."""

import json
from datetime import date

import pandas as pd
import pytest

from kanoclip.config import BackboneConfig
from kanoclip.report.notes import TINY_NOTE
from kanoclip.report.runtime import read_jobs, summary, write_runtime
from kanoclip.rows import Row
from kanoclip.run import Run, RunTarget
from kanoclip.types import InputError

BACKBONE = "kanoclip-tiny-128"


@pytest.fixture
def run():
    rows = [("clip", "none"), ("kanoclip", "parts")]
    return Run(
        version="0.1.0",
        rows=[
            Row(
                name=name,
                method=name,
                recipe="protocol",
                options={},
                training_options={},
                backbone=BACKBONE,
                control=False,
                trainable=False,
            )
            for name, _ in rows
        ],
        jobs=(),
        taps={},
        cached_targets=False,
        main=[name for name, _ in rows],
        ablations={},
        targets=[RunTarget(name="visa", title="VisA", domain="industrial", limit=None)],
        backbones={BACKBONE: BackboneConfig(model="kanoclip-tiny", weights="embedded", image_size=128)},
        resolution=None,
    )


@pytest.fixture
def costs(tmp_path):
    """Write costs of clip on two datasets of 10 and 30 images, and of kanoclip on the first with two seeds.

    The second seed of kanoclip was added later, by a pass of its own.
    """
    files = []
    for method, auxiliary, dataset, seed, images, seconds, scored_by in [
        ("clip", "none", "visa", 1, 10, 2.0, ("a", 4.0, 900.0)),
        ("clip", "none", "mpdd", 1, 30, 2.0, ("b", 3.0, 800.0)),
        ("kanoclip", "parts", "visa", 1, 10, 4.0, ("a", 4.0, 900.0)),
        ("kanoclip", "parts", "visa", 2, 10, 1.0, ("c", 1.0, 700.0)),
    ]:
        cost = {"method": method, "backbone": BACKBONE, "auxiliary": auxiliary, "dataset": dataset, "seed": seed}
        cost |= {"images": images, "seconds": seconds, "total_parameters": 1_000_000}
        cost |= dict(zip(("pass", "pass_seconds", "pass_peak_memory_mb"), scored_by, strict=True))
        cost["learnable_parameters"] = 1234 if auxiliary != "none" else 0
        files.append(tmp_path / f"{len(files)}.json")
        files[-1].write_text(json.dumps(cost))
    return files


@pytest.fixture
def models(tmp_path):
    """Write the logs of two trainings of kanoclip, which took 40 and 50 seconds."""
    for seed, seconds in ((1, [10.0, 40.0]), (2, [15.0, 50.0])):
        log = tmp_path / f"models/kanoclip/{BACKBONE}/parts/seed{seed}/train.csv"
        log.parent.mkdir(parents=True)
        pd.DataFrame({"step": [0, 1], "loss_total": 1.0, "seconds": seconds}).to_csv(log, index=False)
        log.with_name("cost.json").write_text(json.dumps({"peak_memory_mb": 1000.0 * seed}))
    return tmp_path / "models"


def test_every_job_is_listed_once(costs, models):
    jobs = read_jobs(costs, models).set_index("stage")
    assert jobs.index.value_counts().to_dict() == {"score": 4, "pass": 2, "train": 2}
    assert jobs.loc["pass", "images"].tolist() == [10, 30]
    assert jobs.loc["pass", "seconds"].tolist() == [5.0, 3.0]  # those of visa in two passes
    assert jobs.loc["pass", "peak_memory_mb"].tolist() == [900.0, 800.0]
    assert jobs.loc["train", "seconds"].tolist() == [40.0, 50.0]  # per seed, not per command
    assert jobs.loc["score", "seconds"].tolist() == [2.0, 2.0, 4.0, 1.0]


def test_the_summary_equals_values_by_hand(costs, models, run):
    table = summary(read_jobs(costs, models), run)
    assert list(table.columns)[:3] == ["train (s)", "images per second", "peak memory (MB)"]
    assert table.loc[f"pass with {BACKBONE}"].tolist() == ["-", "5.0", "900", "-", "-"]  # 40 images in 8 s
    assert table.loc["clip"].tolist() == ["-", "10.0", "-", "0", "1,000,000"]  # 40 images in 4 s
    assert table.loc["kanoclip"].tolist() == ["45.0", "4.0", "2000", "1,234", "1,000,000"]  # 20 images in 5 s


def test_values_that_were_not_measured_are_missing(costs, tmp_path, run):
    for path in costs:
        cost = json.loads(path.read_text())
        path.write_text(json.dumps(cost | ({"pass_seconds": None} if cost["pass"] == "b" else {})))
    table = summary(read_jobs(costs, tmp_path / "none"), run)
    assert table.loc["kanoclip"].tolist() == ["-", "4.0", "-", "1,234", "1,000,000"]
    assert table.loc[f"pass with {BACKBONE}"].tolist() == ["-", "-", "900", "-", "-"]  # one pass was interrupted


def test_a_method_that_takes_no_time_has_no_rate(costs, models, run):
    for path in costs[:2]:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 0.0}))
    assert summary(read_jobs(costs, models), run).loc["clip", "images per second"] == "-"


def test_the_table_files_are_written(costs, models, run, tmp_path):
    write_runtime(costs, models, tmp_path / "tables", run, date(2025, 1, 31))
    assert {path.suffix for path in (tmp_path / "tables").iterdir()} == {".csv", ".md", ".tex", ".html"}
    for path in (tmp_path / "tables").iterdir():
        assert TINY_NOTE in path.read_text() and "2025-01-31" in path.read_text()
    assert len(pd.read_csv(tmp_path / "tables" / "runtime.csv")) == 8


def test_marked_rows_have_a_sign_and_a_note(costs, models, run, tmp_path):
    rows = tuple(row.model_copy(update={"marks": ("transductive",)}) if row.name == "clip" else row for row in run.rows)
    marked = run.model_copy(update={"rows": rows})
    write_runtime(costs, models, tmp_path / "tables", marked, date(2025, 1, 31))
    text = (tmp_path / "tables" / "runtime.md").read_text()
    assert "clip§" in text and "§ transductive" in text and "kanoclip§" not in text


@pytest.mark.parametrize("text", ["{}", "no JSON", "[1]"])
def test_files_without_a_cost_are_refused(costs, models, text):
    costs[0].write_text(text)
    with pytest.raises(InputError, match=r"0\.json: expected the keys method, .*, found others; score again"):
        read_jobs(costs, models)
