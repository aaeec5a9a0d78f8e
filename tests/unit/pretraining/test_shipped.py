"""Check claims of the model card about the weights in the package, on new images and sentences."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from kanoclip.backbones.clip import load_backbone
from kanoclip.backbones.taps import Tap
from kanoclip.backbones.weights import EMBEDDED
from kanoclip.config import BackboneConfig
from kanoclip.datasets.synthetic import HELD_OUT_KINDS, TRAINING_DEFECTS, defects_of, display_name, render
from kanoclip.maps import upsample
from kanoclip.pretraining.initial import pixels
from kanoclip.pretraining.losses import state_logits
from kanoclip.pretraining.text import state_vectors, text_features


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(BackboneConfig(model="kanoclip-tiny", weights="embedded", image_size=128))


def test_the_file_is_small_and_has_a_card():
    assert (EMBEDDED / "kanoclip-tiny.safetensors").stat().st_size < 10e6
    assert "Limits" in (EMBEDDED / "README.md").read_text()


@pytest.mark.parametrize("kind_of_tap", ["tokens", "vv"])
def test_maps_find_defects_on_held_out_kinds(backbone, kind_of_tap):
    areas, tap = [], Tap(kind_of_tap, backbone.layers)
    for kind in HELD_OUT_KINDS:
        prompts = state_vectors(backbone, [display_name(kind)])
        samples = [
            render(kind, defect, seed)
            for seed in range(990_000, 990_003)
            for defect in defects_of(kind)
            if defect in TRAINING_DEFECTS
        ]
        features = backbone.encode_images(pixels(np.stack([sample.image for sample in samples])), [tap])
        tokens = backbone.project(features[tap][:, 1:])
        logits = state_logits(tokens, prompts.expand(len(samples), -1, -1)).unflatten(1, backbone.grid)
        maps, masks = upsample(logits, (128, 128)), np.stack([sample.mask for sample in samples])
        areas.append(roc_auc_score(masks.ravel(), maps.numpy().ravel()))
    assert np.mean(areas) > 0.75


@pytest.mark.parametrize(
    ("sentence", "abnormal"),
    [
        ("a photo of a damaged screw", True),
        ("leather with deep irregular scratches on the surface", True),
        ("small cracks and broken fragments at the edge of the hazelnut", True),
        ("a photo of a flawless screw", False),
        ("the hazelnut is clean and free of any anomaly", False),
    ],
)
def test_sentences_are_nearer_to_the_prompts_of_their_state(backbone, sentence, abnormal):
    normal_prompt, abnormal_prompt = state_vectors(backbone, ["object"])[0]
    feature = text_features(backbone, [sentence])[0]
    assert bool(feature @ abnormal_prompt > feature @ normal_prompt) is abnormal


def test_unseen_words_share_one_vector_and_class_names_differ(backbone):
    first, second, known = text_features(backbone, ["a photo of a quokka", "a photo of a xylem", "a photo of a screw"])
    ids = backbone.tokenize(["quokka xylem"])[0]
    table = backbone.text.token_embedding.weight
    assert torch.isclose(first.norm(), torch.tensor(1.0), atol=1e-5) and ids.max() == 49407
    assert first @ second > first @ known
    assert table.shape == (49408, 128)
