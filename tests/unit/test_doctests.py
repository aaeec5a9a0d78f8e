"""Every `>>>` example in the package gives the output that it shows."""

import doctest
import importlib
import inspect
from types import FunctionType

import pytest

from kanoclip.code_digest import installed
from kanoclip.metrics.registry import METRICS

EXAMPLES = sorted(name for name, path in installed().modules.items() if ">>> " in path.read_text(encoding="utf-8"))
WITH_FILES = {"compare"}  # needs scores.h5; tests/unit/metrics tests it
PUBLIC = ["maps", "metrics.ranking", "metrics.classification", "metrics.aupro", "metrics.curves", "metrics.compare"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_in_docstrings_give_their_output(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted and not found.failed


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_have_an_example(name: str) -> None:
    module = importlib.import_module(f"kanoclip.{name}")
    functions = {
        found_as: function
        for found_as, function in inspect.getmembers(module, lambda value: isinstance(value, FunctionType))
        if not found_as.startswith("_") and function.__module__ == module.__name__
    }
    assert functions
    assert {
        found_as for found_as, function in functions.items() if ">>> " not in (function.__doc__ or "")
    } <= WITH_FILES


def test_every_metric_has_an_example() -> None:
    assert all(">>> " in (metric.compute.__doc__ or "") for metric in METRICS.values())
