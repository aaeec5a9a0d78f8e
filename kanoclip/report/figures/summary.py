"""The data of figures that compare methods: class-mean AUROC per method and dataset, with an interval."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from kanoclip.metrics.registry import MEAN
from kanoclip.report.metrics import read_metrics
from kanoclip.types import InputError, unknown_name

SEEDS, IMAGES = "seeds", "images"  # kind of interval: standard deviation over seeds, or 95 % bootstrap over images
WHISKERS: dict[str, dict[str, Any]] = {SEEDS: {"ecolor": "black", "capsize": 1.8}, IMAGES: {"ecolor": "0.45"}}


def read_aurocs(metrics: Path, methods: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a long-format metrics.csv with the class-mean AUROC of some methods, one per seed.

    Raises:
        InputError: a method is not in the metrics, or a value is repeated.
    """
    frame = read_metrics(metrics)
    for name in methods:
        if name not in set(frame["method"]):
            raise unknown_name(f"method in {metrics}", name, set(frame["method"]))
    rows = frame[(frame["class_name"] == MEAN) & (frame["metric"] == "auroc") & frame["method"].isin(methods)]
    twice = rows[rows.duplicated(["level", "dataset", "method", "seed"])]
    if not twice.empty:
        method, dataset = twice.iloc[0][["method", "dataset"]]
        raise InputError(f"{metrics}: {method} on {dataset} has several values per seed; give the metrics of one run")
    return rows


def with_intervals(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per (level, dataset, method) from one row per seed.

    Args:
        rows: level, dataset, method; value, low, high (0..1); reason.

    Returns:
        level, dataset, method; value, low, high in percent; spread; reason. With several seeds the spread is SEEDS and
        the interval is the mean ± standard deviation; with one it is IMAGES and the given interval. A value that some
        seed lacks is NaN, with the reason.
    """
    groups = rows.groupby(["level", "dataset", "method"], sort=False)
    return pd.DataFrame(
        [dict(zip(("level", "dataset", "method"), key, strict=True)) | _cell(seeds) for key, seeds in groups]
    )


def _cell(seeds: pd.DataFrame) -> dict[str, float | str]:
    first = seeds.iloc[0]
    value = seeds["value"].mean(skipna=False)
    spread = SEEDS if len(seeds) > 1 else IMAGES
    if spread == SEEDS:
        deviation = seeds["value"].std(ddof=1, skipna=False)
        low, high = value - deviation, value + deviation
    else:
        low, high = first["low"], first["high"]
    reasons = seeds.loc[seeds["value"].isna(), "reason"]
    reason = "" if reasons.empty else str(reasons.iloc[0])
    return {"value": 100 * value, "low": 100 * low, "high": 100 * high, "spread": spread, "reason": reason}


def draw_whiskers(panel: Axes, places: Sequence[float], cells: pd.DataFrame) -> None:
    """Draw the existing intervals: black with caps over seeds, grey without caps over images."""
    for spread, look in WHISKERS.items():
        chosen = [k for k, found in enumerate(cells["spread"]) if found == spread]
        own = cells.iloc[chosen]
        lengths = [own["value"] - own["low"], own["high"] - own["value"]]
        panel.errorbar([places[k] for k in chosen], own["value"], lengths, fmt="none", elinewidth=0.8, zorder=4, **look)
