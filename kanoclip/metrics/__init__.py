"""Metrics of image scores and anomaly maps. Only `counts` and `evaluate`, which handle maps, need torch."""

from kanoclip.metrics import aupro, classification  # noqa: F401  (registers their functions)
from kanoclip.metrics.registry import METRICS, Metric, get_metric, metrics_of

__all__ = ["METRICS", "Metric", "get_metric", "metrics_of"]
