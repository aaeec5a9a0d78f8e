"""Scores, heat maps and decisions for images without labels: the Python API, which `kanoclip predict` uses."""

from kanoclip.predict.decisions import Calibration, Threshold, calibrated
from kanoclip.predict.detector import Detector
from kanoclip.predict.models import load
from kanoclip.predict.regions import Region
from kanoclip.predict.result import Result

__all__ = ["Calibration", "Detector", "Region", "Result", "Threshold", "calibrated", "load"]
