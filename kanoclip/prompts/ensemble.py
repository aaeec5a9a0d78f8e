"""Hand-written prompts: templates times states, averaged to one text vector per polarity."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from kanoclip.backbones.clip import Backbone
from kanoclip.types import unknown_name

TEMPLATES = Path(__file__).with_name("templates.yaml")


@cache
def _ensembles() -> dict[str, dict[str, list[str]]]:
    return yaml.safe_load(TEMPLATES.read_text(encoding="utf-8"))


def prompts(ensemble: str, polarity: str, class_name: str) -> list[str]:
    """Return every prompt of an ensemble in templates.yaml for a class; polarity is "normal" or "abnormal".

    Raises:
        InputError: there is no such ensemble.
    """
    if ensemble not in _ensembles():
        raise unknown_name("prompt ensemble", ensemble, _ensembles())
    entry = _ensembles()[ensemble]
    return [template.format(state.format(class_name)) for state in entry[polarity] for template in entry["templates"]]


def text_vectors(encode_text: Callable[[Sequence[str]], Tensor], ensemble: str, class_name: str) -> Tensor:
    """Return (2, C) unit vectors, normal then abnormal: unit embeddings, averaged and normalised, as CLIP's ensembles.

    Args:
        encode_text: texts to (T, C).
        ensemble: a name in templates.yaml.
        class_name: takes the place of {}.
    """
    polarities = [encode_text(prompts(ensemble, polarity, class_name)) for polarity in ("normal", "abnormal")]
    return torch.stack([F.normalize(F.normalize(vectors, dim=-1).mean(0), dim=-1) for vectors in polarities])


class PromptEnsemble:
    """The text vectors of an ensemble. Each class is encoded once per backbone, for all methods and seeds.

    Args:
        backbone: its frozen text tower reads the prompts, and it keeps the vectors.
        ensemble: a name in templates.yaml.
    """

    def __init__(self, backbone: Backbone, ensemble: str):
        self.backbone, self.ensemble = backbone, ensemble

    def __call__(self, class_names: Sequence[str]) -> Tensor:
        """Return (n, 2, C) unit vectors of n classes, normal then abnormal."""
        known = self.backbone.text_vectors
        for name in class_names:
            if (self.ensemble, name) not in known:
                known[self.ensemble, name] = text_vectors(self.backbone.encode_text, self.ensemble, name)
        return torch.stack([known[self.ensemble, name] for name in class_names])
