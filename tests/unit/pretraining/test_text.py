import numpy as np
import pytest
import torch

from kanoclip.backbones.clip import load_backbone
from kanoclip.config import BackboneConfig
from kanoclip.pretraining.codes import KIND, NOTHING, STATE
from kanoclip.pretraining.text import (
    STAND_IN,
    fit_text,
    stand_in_token,
    state_vectors,
    text_batch,
    text_features,
    used_tokens,
)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(BackboneConfig(model="kanoclip-tiny", weights="random:0", image_size=128))


def test_every_token_of_a_caption_is_kept(backbone):
    kept = {*used_tokens(backbone), stand_in_token(backbone), 0}
    batch = text_batch(2000, np.random.default_rng(1))
    assert set(backbone.tokenize(batch.texts).unique().tolist()) <= kept


def test_some_captions_do_without_a_known_class_name():
    batch = text_batch(500, np.random.default_rng(2))
    nameless = batch.numbers[:, KIND] == NOTHING
    assert 0.05 < nameless.mean() < 0.3
    assert all(
        STAND_IN in text or "object" in text for text, without in zip(batch.texts, nameless, strict=True) if without
    )
    assert 0.4 < (batch.numbers[:, STATE] == 1).mean() < 0.6


def test_text_features_are_those_of_the_backbone_as_unit_vectors(backbone):
    texts = ["a photo of a normal screw", "damaged leather"]
    expected = torch.nn.functional.normalize(backbone.encode_text(texts), dim=-1)
    assert torch.allclose(text_features(backbone, texts), expected, atol=1e-5)


def test_fitting_brings_captions_to_their_codes_and_locks_the_tower():
    backbone = load_backbone(BackboneConfig(model="kanoclip-tiny", weights="random:1", image_size=128))
    visual = backbone.clip.visual.conv1.weight.clone()
    before = fit_text(backbone, 2, seed=0)
    after = fit_text(backbone, 25, seed=0)
    assert after > before + 0.1
    assert not any(parameter.requires_grad for parameter in backbone.clip.parameters())
    assert torch.equal(visual, backbone.clip.visual.conv1.weight)
    vectors = state_vectors(backbone, ["screw", "gear"])
    assert vectors.shape == (2, 2, 128)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(2, 2), atol=1e-5)
