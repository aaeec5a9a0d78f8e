"""Read the shipped thresholds of training-free methods, guessed from drawn images (`predict.guessing`)."""

import json
from pathlib import Path
from typing import Any

from kanoclip.backbones.clip import Backbone
from kanoclip.methods import Method
from kanoclip.result_store import fingerprint

SHIPPED = Path(__file__).parent / "embedded" / "thresholds.json"


def guess_of(method: Method[Any], name: str) -> dict[str, Any] | None:
    """Return the shipped threshold of a method, as `kanoclip.predict.decisions.guessed` takes it.

    Args:
        method: a training-free method.
        name: as registered.

    Returns:
        None if there is none, i.e. for another backbone, image size or options.
    """
    if method.options != type(method).Options():
        return None
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
    found: dict[str, Any] | None = shipped["methods"].get(name)
    return found if found and shipped["backbone"] == identity(method.backbone) else None


def identity(backbone: Backbone) -> str:
    """Return a digest of everything that the features of a backbone depend on."""
    return fingerprint(backbone=backbone.provenance())
