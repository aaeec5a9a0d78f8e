"""Run the quickstart exactly as shipped; it takes minutes, so this is a slow test."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
BACKBONES = ("kanoclip-tiny-128", "kanoclip-tiny-random")
TARGETS = ("synthetic", "elpv", "textile")
AUXILIARY = "synthetic_auxiliary"
TRAINED = ("april_gan", "anomalyclip", "mvfa", "kanoclip")


def places(folder: Path) -> set[tuple[str, ...]]:
    """Return the paths of the files below a folder, relative to it and without suffixes."""
    return {path.relative_to(folder).with_suffix("").parts for path in folder.rglob("*.tsv")}


@pytest.mark.slow
def test_the_quickstart_works(tmp_path: Path) -> None:
    for name in ("Snakefile", "environment.yml", "workflow", "profiles", "kanoclip", "config"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "config/quickstart.yaml"]
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    first = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr[-3000:]
    second = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True)
    assert "Nothing to be done" in second.stderr
    run = tmp_path / "results/quickstart"
    passes = {(backbone, target) for backbone in BACKBONES for target in TARGETS}
    for stage in ("score", "evaluate"):  # one job for all rows and seeds of a backbone on a target
        assert places(run / "benchmarks" / stage) == passes
    assert places(run / "benchmarks/train") == {(row, BACKBONES[0], AUXILIARY) for row in TRAINED}  # for all seeds
    assert places(run / "benchmarks/encode") == {(BACKBONES[0], AUXILIARY)}  # targets are scored from their images
    scored = {path.parent for path in run.glob("scores/*/*/*/*/seed*/scores.h5")}
    assert len(scored) == 19 * len(TARGETS)  # rows and seeds
    assert all((folder / file).is_file() for folder in scored for file in ("cost.json", "metrics.csv", "curves.csv"))
    frame = pd.read_csv(run / "tables/metrics.csv", keep_default_na=False, na_values={"value": [""]})
    assert set(frame["dataset"]) == set(TARGETS)
    elsewhere = (frame["metric"] == "aupro_200") | frame["metric"].str.endswith("_auxiliary")  # oracle; untrained rows
    missing = frame[frame["value"].isna() & ~elsewhere]
    assert (missing["reason"] == "no masks").all()
    means = frame[(frame["class_name"] == "mean") & (frame["metric"] == "auroc")].groupby(["method", "level"])["value"]
    assert means.mean()["oracle"].tolist() == [1, 1]
    assert means.mean()["random", "image"] == pytest.approx(0.5, abs=0.1)
    assert means.mean()["random", "pixel"] == pytest.approx(0.5, abs=0.05)  # there are few defects on a coarse grid
    synthetic = frame[(frame["dataset"] == "synthetic") & (frame["class_name"] == "mean") & (frame["level"] == "pixel")]
    pixel = synthetic[synthetic["metric"] == "auroc"].groupby("method")["value"].mean()
    assert pixel["clip"] > 0.7 and pixel["kanoclip"] > 0.6  # the drawn classes are new to the backbone and the method
