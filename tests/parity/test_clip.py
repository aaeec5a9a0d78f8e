"""CLIP from pixels and text, by the formulas of docs/methods/clip.md."""

import numpy as np
import pytest
import torch

from kanoclip.backbones.clip import Backbone
from kanoclip.methods.base import Batch
from kanoclip.methods.clip import Clip, ClipOptions


@pytest.mark.parametrize("temperature", [0.07, 0.01])
def test_forward_equals_the_formulas(
    backbone: Backbone, slow, images: torch.Tensor, batch: Batch, temperature: float
) -> None:
    found = Clip(backbone, ClipOptions(temperature=temperature), seed=0)(batch)
    for number, name in enumerate(batch.class_names):
        text = slow.encode_text(f"a photo of a normal {name}"), slow.encode_text(f"a photo of an anomalous {name}")
        tokens = slow.blocks(slow.embed(images[number].double().numpy()))[slow.vision_layers]
        image, *patches = [slow.probability(slow.project(token), *text, temperature) for token in tokens]
        np.testing.assert_allclose(found.map[number].flatten(), patches, atol=1e-5)
        np.testing.assert_allclose(found.image_score[number], image, atol=1e-5)
