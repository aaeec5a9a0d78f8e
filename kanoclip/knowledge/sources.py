"""Where descriptions come from. For now one source: text written and reviewed by people, shipped with the package."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import yaml

from kanoclip.knowledge.store import Description
from kanoclip.types import logger

CURATED = Path(__file__).parent / "curated"  # <dataset>.yaml: class name: sentences; generic.yaml for all other classes
ANY_CLASS = "{}"


def curated(dataset: str, class_names: Sequence[str]) -> list[Description]:
    """The shipped descriptions of a dataset's classes; a class without its own gets the generic ones.

    Args:
        dataset: name of the dataset.
        class_names: as in its index.csv.
    """
    own = _sentences(dataset)
    descriptions = []
    for name in class_names:
        if name not in own:
            logger.info("%s: no curated text for '%s'; taking the generic sentences", dataset, name)
        texts = own.get(name) or [text.format(name) for text in _sentences("generic")[ANY_CLASS]]
        descriptions += [Description(name, "curated", text) for text in texts]
    return descriptions


@cache
def _sentences(name: str) -> dict[str, list[str]]:
    path = CURATED / f"{name}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
