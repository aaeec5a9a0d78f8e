"""Knowledge features (KAnoCLIP, section 2.2): text features of descriptions, per class or per image."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64  # texts encoded at once


class KnowledgeFeatures:
    """w_k of equation 3 for classes and, if images have their own descriptions, for images.

    Args:
        encode_text: returns (T, C) features of texts.
        classes: class name to descriptions.
        images: image to descriptions; empty for one feature per class.
    """

    def __init__(
        self,
        encode_text: Callable[[Sequence[str]], Tensor],
        classes: Mapping[str, Sequence[str]],
        images: Mapping[str, Sequence[str]],
    ):
        self.classes = mean_features(encode_text, classes)
        self.images = mean_features(encode_text, images)

    def __call__(self, images: Sequence[str], class_names: Sequence[str]) -> tuple[list[int], Tensor]:
        """Return the knowledge features of a batch: row numbers, and a unit vector for each.

        Args:
            images: (B,) names.
            class_names: (B,) names.

        Returns:
            All rows, if images have their own descriptions (images without use their class's), otherwise the first row
            of each class; and the (K, C) unit vectors of these K rows.
        """
        rows = (
            list(range(len(images)))
            if self.images
            else [class_names.index(name) for name in dict.fromkeys(class_names)]
        )
        features = [self.images.get(images[row], self.classes[class_names[row]]) for row in rows]
        return rows, torch.stack(features)


def mean_features(
    encode_text: Callable[[Sequence[str]], Tensor], texts: Mapping[str, Sequence[str]]
) -> dict[str, Tensor]:
    """Return the mean feature of each name's texts (equation 3), as a unit vector (C,)."""
    if not texts:
        return {}
    everything = [text for own in texts.values() for text in own]
    chunks = [encode_text(everything[start : start + CHUNK]) for start in range(0, len(everything), CHUNK)]
    features = torch.cat(chunks).split([len(own) for own in texts.values()])
    return {name: F.normalize(own.mean(0), dim=-1) for name, own in zip(texts, features, strict=True)}
