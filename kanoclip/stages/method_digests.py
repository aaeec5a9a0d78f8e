"""Digests of the code that trainings and scores depend on, for their fingerprints."""

from typing import Any

from kanoclip.code_digest import digest
from kanoclip.methods import Method


def training_code(kind: type[Method[Any]]) -> str:
    """Return the digest of the code that trains a method: the stage, the method's modules, and their imports."""
    return digest("kanoclip.stages.training", kind.__module__)


def scoring_code(kind: type[Method[Any]]) -> str:
    """Return the digest of the code that scores with a method: the stage, the method's modules, and their imports."""
    return digest("kanoclip.stages.scoring", kind.__module__)
