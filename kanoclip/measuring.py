"""Measure what this process has cost so far."""

import resource
import sys
import time

import psutil

RSS_UNIT = 1 if sys.platform == "darwin" else 2**10  # bytes per unit of ru_maxrss


def process_cost() -> tuple[float, float]:
    """Return the seconds since this process started and its peak resident memory in MB (2^20 bytes)."""
    seconds = time.time() - psutil.Process().create_time()
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / 2**20
