"""What a run cost, against values by hand."""

from datetime import date

import h5py
import pandas as pd
import pytest

from kanoclip.config import BackboneConfig
from kanoclip.report.notes import TINY_NOTE
from kanoclip.report.runtime import read_jobs, summary, write_runtime
from kanoclip.run import Row, Run, RunTarget
from kanoclip.types import InputError

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
BACKBONE = "kanoclip-tiny-128"


@pytest.fixture
def run():
    rows = [("clip", "none"), ("kanoclip", "parts")]
    return Run(
        version="0.1.0",
        rows=[
            Row(name=name, method=name, recipe="protocol", options={}, backbone=BACKBONE, control=False)
            for name, _ in rows
        ],
        main=[name for name, _ in rows],
        ablations={},
        targets=[RunTarget(name="visa", title="VisA", domain="industrial", limit=None)],
        backbones={BACKBONE: BackboneConfig(model="kanoclip-tiny", weights="embedded", image_size=128)},
        resolution=None,
    )


@pytest.fixture
def scores(tmp_path):
    """clip on two datasets of 10 and 30 images, kanoclip on the first with two seeds; one job was not measured."""
    files = []
    for method, auxiliary, dataset, seed, images, seconds in [
        ("clip", "none", "visa", 1, 10, 2.0),
        ("clip", "none", "mpdd", 1, 30, 2.0),
        ("kanoclip", "parts", "visa", 1, 10, 4.0),
        ("kanoclip", "parts", "visa", 2, 10, 1.0),
    ]:
        files.append(tmp_path / f"{len(files)}.h5")
        with h5py.File(files[-1], "w") as file:
            file["image"] = [b"image"] * images
            file.attrs.update(method=method, backbone=BACKBONE, auxiliary=auxiliary, dataset=dataset, seed=seed)
            file.attrs.update(seconds=seconds, total_parameters=1_000_000)
            file.attrs.update(learnable_parameters=1234 if auxiliary != "none" else 0)
    return files


@pytest.fixture
def benchmarks(tmp_path):
    folder = tmp_path / "benchmarks"
    for path, seconds, memory in [
        (f"encode/{BACKBONE}/visa", "5.00", "900.00"),
        (f"encode/{BACKBONE}/mpdd", "3.00", "1100.00"),
        (f"train/kanoclip/{BACKBONE}/parts/seed1", "40.00", "2000.00"),
        (f"train/kanoclip/{BACKBONE}/parts/seed2", "50.00", "1500.00"),
        (f"score/clip/{BACKBONE}/none/visa/seed1", "4.00", "700.00"),
        (f"score/clip/{BACKBONE}/none/mpdd/seed1", "6.00", "-"),
        (f"score/kanoclip/{BACKBONE}/parts/visa/seed1", "7.00", "800.00"),
    ]:
        file = folder / f"{path}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{HEADER}{seconds}\t0:00:00\t{memory}\t1\t1\t1\t0\t0\t0\t0\n")
    return folder


def test_every_job_once(scores, benchmarks):
    jobs = read_jobs(scores, benchmarks).set_index("stage")
    assert jobs.index.value_counts().to_dict() == {"score": 4, "encode": 2, "train": 2}
    assert jobs.loc["encode", "images"].tolist() == [10, 30]
    assert jobs.loc["train", "seconds"].tolist() == [40.0, 50.0]
    assert jobs.loc["score", "seconds"].isna().tolist() == [False, False, False, True]


def test_summary_by_hand(scores, benchmarks, run):
    table = summary(read_jobs(scores, benchmarks), run)
    assert table.loc[f"encoder {BACKBONE}"].tolist() == ["-", "4.0", "5.0", "1100", "-", "-"]  # 40 images in 8 s
    assert table.loc["clip"].tolist() == ["-", "5.0", "10.0", "700", "0", "1,000,000"]  # 40 images in 4 s
    assert table.loc["kanoclip"].tolist() == ["45.0", "7.0", "4.0", "2000", "1,234", "1,000,000"]  # 20 images in 5 s
    assert list(table.columns)[:4] == ["train (s)", "encode or score (s)", "images per second", "peak memory (MB)"]


def test_without_benchmarks_the_cells_are_missing(scores, tmp_path, run):
    table = summary(read_jobs(scores, tmp_path / "none"), run)
    assert table.loc["kanoclip"].tolist() == ["-", "-", "4.0", "-", "1,234", "1,000,000"]
    assert table.loc[f"encoder {BACKBONE}"].tolist() == ["-"] * 6


def test_the_files(scores, benchmarks, run, tmp_path):
    write_runtime(scores, benchmarks, tmp_path / "tables", run, date(2025, 1, 31))
    assert {path.suffix for path in (tmp_path / "tables").iterdir()} == {".csv", ".md", ".tex", ".html"}
    for path in (tmp_path / "tables").iterdir():
        assert TINY_NOTE in path.read_text() and "2025-01-31" in path.read_text()
    assert len(pd.read_csv(tmp_path / "tables" / "runtime.csv")) == 8


def test_scores_that_say_nothing_of_their_cost(scores, benchmarks):
    with h5py.File(scores[0], "a") as file:
        del file.attrs["seconds"]
    with pytest.raises(InputError, match=r"0\.h5: expected the attribute seconds, found none; score again"):
        read_jobs(scores, benchmarks)
