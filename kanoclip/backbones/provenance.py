"""Compare the backbones that two files were made with."""

import json
from collections.abc import Mapping
from typing import Any


def backbone_difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return the first difference between two provenances, in words; "" if they agree.

    Args:
        expected: from `Backbone.provenance`.
        found: as read from a file; may hold more keys.
    """
    for key, value in json.loads(json.dumps(expected)).items():
        other = found.get(key)
        if value != other and isinstance(value, dict) and isinstance(other, dict):
            names = [name for name in {**value, **other} if value.get(name) != other.get(name)]
            value, other = ({name: entry.get(name) for name in names} for entry in (value, other))
        if value != other:
            return f"{key}: expected {value}, found {other}"
    return ""
