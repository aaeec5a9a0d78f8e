"""Digests of the code that trainings and scores depend on."""

from typing import Any

from kanoclip.methods import Method


def training_code(kind: type[Method[Any]]) -> str:
    return ""


def scoring_code(kind: type[Method[Any]]) -> str:
    return ""
