"""Parts of benchmarks/gpu.py: a report that survives failures and keeps to a time budget, timing, and random images."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kanoclip.datasets.prepare import prepare
from kanoclip.datasets.specs import folder_spec

SIDE = 1024  # pixels of the images on disk
DISTINCT = 8  # different images; the others are copies


class OutOfTimeError(Exception):
    """The time budget is spent."""


class Report:
    """Measured values by section.

    Args:
        budget: seconds after which no measurement starts.
        device: the device whose memory is recorded.
    """

    def __init__(self, budget: float, device: torch.device):
        self.end, self.device = time.perf_counter() + budget, device
        self.rows: list[dict[str, Any]] = []
        self._section = ""

    def section(self, name: str, measure: Callable[[], None]) -> None:
        """Measure a section; an error or a spent budget is a row of the table and does not stop other sections."""
        self._section = name
        try:
            self.check_time()
            measure()
        except OutOfTimeError:
            self.add("rest" if any(row["section"] == name for row in self.rows) else "all", "not measured: budget")
        except Exception as error:  # noqa: BLE001 - whatever fails on an unknown machine, the rest is worth measuring
            lines = f"{type(error).__name__}: {error}".splitlines()
            self.add("failed", lines[0][:160])
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def check_time(self) -> None:
        """Stop the section if the budget is spent; record peak memory from here on."""
        if time.perf_counter() > self.end:
            raise OutOfTimeError
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def add(self, name: str, value: float | str, unit: str = "", aim: str = "") -> None:
        """Add a value, with the peak GPU memory since the last `check_time`."""
        memory = torch.cuda.max_memory_allocated(self.device) / 1e9 if self.device.type == "cuda" else None
        row = {"section": self._section, "name": name, "value": value, "unit": unit, "aim": aim, "memory_gb": memory}
        self.rows.append(row)
        print(_line(row), flush=True)

    def find(self, section: str, name: str) -> float | None:
        """Return a measured number, or None if it is missing."""
        found = [row["value"] for row in self.rows if (row["section"], row["name"]) == (section, name)]
        return found[0] if found and not isinstance(found[0], str) else None

    def write(self, path: Path, settings: dict[str, Any]) -> None:
        """Write all values as JSON."""
        path.write_text(json.dumps({"settings": settings, "results": self.rows}, indent=1) + "\n", encoding="utf-8")


HEAD = f"{'section':11} {'measured':44} {'value':>22} {'unit':14} {'GPU GB':>7}  aim"


def _line(row: dict[str, Any]) -> str:
    value = row["value"] if isinstance(row["value"], str) else f"{row['value']:.4g}"
    memory = "-" if row["memory_gb"] is None else f"{row['memory_gb']:.2f}"
    return f"{row['section']:11} {row['name']:44} {value:>22} {row['unit']:14} {memory:>7}  {row['aim']}".rstrip()


def seconds(function: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Return the seconds of the fastest of some calls, after one warm-up call."""
    times = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        function()
        wait(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def write_images(folder: Path, count: int) -> Path:
    """Write normal and anomalous images of 1,024 pixels, alternately PNG and JPEG, and return their index.csv."""
    rng = np.random.default_rng(0)
    for number in range(count):
        defect, suffix = ("good", "spot")[number // 2 % 2], (".png", ".jpg")[number % 2]
        path = folder / "images" / "part" / "test" / defect / f"{number:05}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        like = folder / f"{number % DISTINCT}{suffix}"
        if not like.exists():
            coarse = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).resize((SIDE, SIDE))
            noise = rng.integers(-4, 5, (SIDE, SIDE, 3))
            smooth = np.clip(np.asarray(coarse, int) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(smooth).save(like, quality=92, compress_level=1)
        shutil.copy(like, path)
        if defect == "spot":
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[100:400, 100:400] = 255
            place = folder / "images" / "part" / "ground_truth" / defect / f"{number:05}_mask.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(place)
    prepare(folder_spec("drawn", {}), folder / "index.csv", folder, folder / "images")
    return folder / "index.csv"
