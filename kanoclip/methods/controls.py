"""Controls that validate the evaluation: the oracle must score 100, random 50. They are never ranked."""

import hashlib
from pathlib import PurePath

import torch

from kanoclip.config import Strict
from kanoclip.methods.base import AnomalyOutput, Batch, Method, register


@register("oracle")
class Oracle(Method[Strict]):
    """The oracle: its scores are the labels and its maps the masks, so every metric must be 1."""

    control = True
    sees_truth = True

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Return labels and masks as scores and maps."""
        labels, masks = batch.truth
        return AnomalyOutput(masks, image_score=labels)


@register("random")
class Random(Method[Strict]):
    """Uniform noise, so AUROC must be 0.5 up to chance."""

    control = True
    stochastic = True

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Draw a map and a score that depend only on the seed and the image's name, not on the batch or data folder."""
        h, w = self.backbone.grid
        noise = torch.stack([self._noise(image, h * w + 1) for image in batch.images])
        return AnomalyOutput(noise[:, 1:].view(-1, h, w), image_score=noise[:, 0])

    def _noise(self, image: str, count: int) -> torch.Tensor:
        name = "/".join(PurePath(image).parts[-4:])  # class/test/good/000.png: independent of the dataset's location
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        return torch.rand(count, generator=torch.Generator().manual_seed(int.from_bytes(digest[:7], "big")))
