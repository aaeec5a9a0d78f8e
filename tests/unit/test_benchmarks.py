"""Run the GPU benchmark on a CPU, so that it is known to work when a GPU is available."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SECTIONS = ["peak", "tower", "start-up", "pass", "methods", "training", "agreement", "rates", "compiled"]


def measured(out: Path, budget: int) -> list[dict[str, Any]]:
    command = [sys.executable, "benchmarks/gpu.py", "--small", "--budget", str(budget), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(out.read_text())
    assert found["settings"]["model"] == "kanoclip-tiny"
    assert all(row.keys() == {"section", "name", "value", "unit", "aim", "memory_gb"} for row in found["results"])
    return found["results"]


def test_the_gpu_benchmark_keeps_to_its_budget(tmp_path: Path) -> None:
    rows = measured(tmp_path / "gpu.json", 8)
    assert list(dict.fromkeys(row["section"] for row in rows)) == SECTIONS
    assert rows[-1]["value"] == "not measured: budget"
    for row in rows:  # values are numbers if they were measured, and never 0 if they were not
        assert row["value"] == "not measured: budget" or (isinstance(row["value"], float) and row["value"] > 0)


@pytest.mark.slow
def test_every_section_of_the_gpu_benchmark_works(tmp_path: Path) -> None:
    rows = measured(tmp_path / "gpu.json", 1200)
    assert not [row for row in rows if row["section"] != "compiled" and isinstance(row["value"], str)]
    assert {row["name"] for row in rows} >= {"kanoclip, 15 epochs, extrapolated", "all methods: 15 rows and seeds"}
