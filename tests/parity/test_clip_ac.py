"""CLIP-AC from pixels and text, by the formulas of docs/methods/clip_ac.md."""

import numpy as np
import torch

from kanoclip.backbones.clip import Backbone
from kanoclip.methods.base import Batch
from kanoclip.methods.clip import ClipOptions
from kanoclip.methods.clip_ac import ClipAC


def test_forward_equals_the_formulas(
    backbone: Backbone, slow, images: torch.Tensor, batch: Batch, april_gan_templates: list[str]
) -> None:
    found = ClipAC(backbone, ClipOptions(), seed=0)(batch)
    for number, name in enumerate(batch.class_names):
        text = [
            slow.mean_text([template.format(f"{word} {name}") for template in april_gan_templates])
            for word in ("normal", "anomalous")
        ]
        tokens = slow.blocks(slow.embed(images[number].double().numpy()))[slow.vision_layers]
        image, *patches = [slow.probability(slow.project(token), *text, 0.07) for token in tokens]
        np.testing.assert_allclose(found.map[number].flatten(), patches, atol=1e-5)
        np.testing.assert_allclose(found.image_score[number], image, atol=1e-5)
