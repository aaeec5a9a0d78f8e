from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from kanoclip import datasets
from kanoclip.backbones.clip import load_backbone
from kanoclip.config import BackboneConfig
from kanoclip.pretraining.codes import KIND, NOTHING, STATE, code_tables, codes
from kanoclip.pretraining.names import NAMES, SYNONYMS, name_vectors
from kanoclip.pretraining.text import (
    STAND_IN,
    fit_text,
    stand_in_token,
    state_vectors,
    text_batch,
    text_features,
    used_tokens,
)
from kanoclip.prompts.ensemble import TEMPLATES, prompts


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(BackboneConfig(model="kanoclip-tiny", weights="random:0", image_size=128))


def test_every_token_of_a_caption_is_in_the_vocabulary(backbone):
    kept = {*used_tokens(backbone), stand_in_token(backbone), 0}
    batch = text_batch(2000, np.random.default_rng(1))
    assert set(backbone.tokenize(batch.texts).unique().tolist()) <= kept


def test_some_captions_have_no_known_class_name():
    batch = text_batch(500, np.random.default_rng(2))
    nameless = batch.numbers[:, KIND] == NOTHING
    named = batch.names >= 0
    assert 0.3 < named.mean() < 0.5 and nameless[named].all()
    assert 0.05 < (nameless & ~named).mean() < 0.3
    for text, without, name in zip(batch.texts, nameless, batch.names, strict=True):
        if name >= 0:
            assert any(word in text.replace(f"{STAND_IN} ", "") for word in SYNONYMS[name])
        elif without:
            assert STAND_IN in text or "object" in text
    assert 0.4 < (batch.numbers[:, STATE] == 1).mean() < 0.6


def test_every_token_of_prompts_and_class_names_is_in_the_vocabulary(backbone):
    table = yaml.safe_load((Path(datasets.__file__).parent / "class_names.yaml").read_text())
    names = sorted({name for classes in table["datasets"].values() for name in classes.values()})
    texts = [f"a photo of a {name}" for name in names]
    for ensemble in yaml.safe_load(TEMPLATES.read_text()):
        texts += [text for polarity in ("normal", "abnormal") for text in prompts(ensemble, polarity, "screw")]
    unknown = set(backbone.tokenize(texts).unique().tolist()) - {*used_tokens(backbone), 0}
    # AnoCLIP's templates were added after the training, so these words share the vector of unknown words
    younger = set(backbone.tokenize(["manufacturing imperfect textural"]).unique().tolist())
    assert unknown <= younger, sorted(unknown - younger)


def test_names_are_near_their_synonyms_and_group_and_orthogonal_to_attributes():
    tables = code_tables(128, 0)
    vectors = name_vectors(tables, 0)
    assert np.abs(vectors @ np.concatenate(tables).T).max() < 1e-5
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = np.repeat(np.arange(len(NAMES)), [len(sets) for sets in NAMES.values()])
    alike = groups[:, None] == groups
    apart = ~np.eye(len(groups), dtype=bool)
    cosines = unit @ unit.T
    assert cosines[alike & apart].mean() > cosines[~alike].mean() + 0.3
    normal, abnormal = (np.array([[state, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING]], np.int16) for state in (0, 1))
    difference = codes(abnormal, tables, vectors[:1]) - codes(normal, tables, vectors[:1])
    state = tables[STATE][1] - tables[STATE][0]
    assert difference[0] @ state == pytest.approx(np.linalg.norm(difference) * np.linalg.norm(state), rel=1e-5)


def test_sets_of_names_are_disjoint():
    names = [name for several in SYNONYMS for name in several]
    assert len(names) == len(set(names))


def test_text_features_equal_the_unit_vectors_of_the_backbone(backbone):
    texts = ["a photo of a normal screw", "damaged leather"]
    expected = torch.nn.functional.normalize(backbone.encode_text(texts), dim=-1)
    assert torch.allclose(text_features(backbone, texts), expected, atol=1e-5)


def test_fitting_moves_captions_to_their_codes_and_freezes_the_tower():
    backbone = load_backbone(BackboneConfig(model="kanoclip-tiny", weights="random:1", image_size=128))
    visual = backbone.clip.visual.conv1.patches.weight.clone()
    before = fit_text(backbone, 2, seed=0)
    after = fit_text(backbone, 25, seed=0)
    assert after > before + 0.1
    assert not any(parameter.requires_grad for parameter in backbone.clip.parameters())
    assert torch.equal(visual, backbone.clip.visual.conv1.patches.weight)
    vectors = state_vectors(backbone, ["screw", "gear"])
    assert vectors.shape == (2, 2, 128)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(2, 2), atol=1e-5)
