"""Estimate the hours of a run from measured rates (rates.yaml)."""

from collections.abc import Collection, Mapping
from pathlib import Path

import yaml

from kanoclip.backbones.cost import tap_values, tower_operations
from kanoclip.backbones.descriptions import supported
from kanoclip.backbones.shape import tower_shape
from kanoclip.config import Strict
from kanoclip.run import Run

RATES = Path(__file__).parent / "rates.yaml"
MILLION = 1e6


class Rates(Strict):
    """The measured rates of one device; see rates.yaml."""

    towers: float
    scoring: dict[str, float]
    training: dict[str, float]
    evaluation: float


def read_rates() -> dict[str, Rates | None]:
    """Return the measured rates by device; None for a device without measurements."""
    found = yaml.safe_load(RATES.read_text(encoding="utf-8"))
    return {device: Rates.model_validate(values) if values else None for device, values in found.items()}


def extra_trainings(threshold_folds: int) -> float:
    """Return the cost of choosing a threshold for all seeds of a row, in trainings on all classes.

    >>> extra_trainings(0), extra_trainings(1), extra_trainings(4)  # half the classes once; three quarters four times
    (0.0, 0.5, 3.0)
    """
    parts = max(2, threshold_folds)
    return threshold_folds * (parts - 1) / parts


def hours(
    run: Run, images: Mapping[str, int], rates: Rates | None, threshold_folds: int = 0
) -> dict[str, float] | None:
    """Estimate the hours of the main tables by part; None without rates.

    A method without a rate counts as 0; `unrated` names the rows it concerns.

    Args:
        run: the run.
        images: by dataset.
        rates: rates of the device.
        threshold_folds: see `extra_trainings`.
    """
    if rates is None:
        return None
    trainings = [one for one in run.trainings if one.row in run.main]
    seconds = {"encode": 0.0, "train": 0.0, "score": 0.0, "evaluate": 0.0}
    for backbone, dataset in {(one.backbone, one.auxiliary) for one in trainings}:
        taps = run.taps.get(backbone, {}).get(dataset, ())
        seconds["encode"] += images[dataset] * _towers(run, backbone, taps, rates)
    for one in trainings:
        row = run.row(one.row)
        shown = images[one.auxiliary] * (len(one.seeds) + extra_trainings(threshold_folds))
        shown *= row.epochs_on(one.auxiliary)
        seconds["train"] += shown * _tokens(run, one.backbone) / MILLION * rates.training.get(row.method, 0.0)
        if one.auxiliary not in run.taps.get(one.backbone, {}):  # not cached: encoded in every epoch
            seconds["encode"] += shown * _towers(run, one.backbone, row.reads, rates)
    for each in (each for each in run.passes if not each.ablations):
        rows = [run.row(job.row) for job in each.jobs]
        read = {tap for row in rows for tap in row.reads}
        methods = sum(rates.scoring.get(row.method, 0.0) for row in rows) * _tokens(run, each.backbone) / MILLION
        pixels = (run.resolution or run.backbones[each.backbone].image_size) ** 2 / MILLION
        seconds["score"] += images[each.target] * (_towers(run, each.backbone, read, rates) + methods)
        seconds["evaluate"] += images[each.target] * len(rows) * pixels * rates.evaluation
    return {part: value / 3600 for part, value in seconds.items()}


def unrated(run: Run, rates: Rates | None) -> list[str]:
    """Return the rows of the main tables whose method has no measured rate, so that their hours are missing.

    Controls cost next to nothing and need no rate.
    """
    if rates is None:
        return []
    rows = [run.row(name) for name in run.main]
    trained = {one.row for one in run.trainings}
    needed = [(row, rates.scoring) for row in rows] + [(row, rates.training) for row in rows if row.name in trained]
    missing = {row.name for row, known in needed if not row.control and row.method not in known}
    return [row.name for row in rows if row.name in missing]


def _towers(run: Run, backbone: str, taps: Collection[str], rates: Rates) -> float:
    """Return the seconds per image to compute taps."""
    config = run.backbones[backbone]
    patch = supported(config.model).patch_size
    assert patch is not None
    return tower_operations(taps, tower_shape(config), patch) / 1e9 / rates.towers


def _tokens(run: Run, backbone: str) -> int:
    """Return the number of values of one image's tokens after a block."""
    return tap_values("tokens/1", tower_shape(run.backbones[backbone])) or 0
