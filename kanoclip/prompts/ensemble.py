"""Hand-written prompts: templates times states, averaged to one text vector a polarity."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

TEMPLATES = Path(__file__).with_name("templates.yaml")


@cache
def _ensembles() -> dict[str, dict[str, list[str]]]:
    return yaml.safe_load(TEMPLATES.read_text(encoding="utf-8"))


def prompts(ensemble: str, polarity: str, class_name: str) -> list[str]:
    """Every prompt of an ensemble in templates.yaml for a class; polarity is "normal" or "abnormal"."""
    entry = _ensembles()[ensemble]
    return [template.format(state.format(class_name)) for state in entry[polarity] for template in entry["templates"]]


def text_vectors(encode_text: Callable[[Sequence[str]], Tensor], ensemble: str, class_name: str) -> Tensor:
    """(2, C) unit vectors, normal then abnormal: unit embeddings, averaged, normalised again, as CLIP's own ensembles.

    Args:
        encode_text: texts to (T, C).
        ensemble: a name in templates.yaml.
        class_name: takes the place of {}.
    """
    polarities = [encode_text(prompts(ensemble, polarity, class_name)) for polarity in ("normal", "abnormal")]
    return torch.stack([F.normalize(F.normalize(vectors, dim=-1).mean(0), dim=-1) for vectors in polarities])


class PromptEnsemble:
    """The text vectors of an ensemble; a class is encoded once, when it is first asked for.

    Args:
        encode_text: texts to (T, C), of a frozen text tower.
        ensemble: a name in templates.yaml.
    """

    def __init__(self, encode_text: Callable[[Sequence[str]], Tensor], ensemble: str):
        self.encode_text = encode_text
        self.ensemble = ensemble
        self._vectors: dict[str, Tensor] = {}

    def __call__(self, class_names: Sequence[str]) -> Tensor:
        """(n, 2, C) unit vectors of n classes, normal then abnormal."""
        for name in class_names:
            if name not in self._vectors:
                self._vectors[name] = text_vectors(self.encode_text, self.ensemble, name)
        return torch.stack([self._vectors[name] for name in class_names])
