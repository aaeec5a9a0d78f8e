"""Metrics of image scores and anomaly maps: exact, without torch (but for `evaluate`, which upsamples maps)."""

from kanoclip.metrics import aupro, classification  # noqa: F401  (their functions enter the registry)
from kanoclip.metrics.registry import METRICS, Metric, get_metric, metrics_of

__all__ = ["METRICS", "Metric", "get_metric", "metrics_of"]
