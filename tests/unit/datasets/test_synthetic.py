import hashlib

import numpy as np
import pytest

from kanoclip.datasets.synthetic import (
    AUXILIARY_KINDS,
    DEFECTS,
    HELD_OUT_DEFECTS,
    HELD_OUT_KINDS,
    KINDS,
    TRAINING_DEFECTS,
    TRAINING_KINDS,
    Sample,
    defects_of,
    describe,
    display_name,
    render,
)
from kanoclip.datasets.synthetic.captions import DEFECT_NOUNS, DEFECT_SENTENCES
from kanoclip.types import InputError

EVERY_KIND = (*KINDS, *AUXILIARY_KINDS)
PAIRS = [(kind, defect) for kind in EVERY_KIND for defect in defects_of(kind)]


def digest(sample: Sample) -> str:
    return hashlib.sha256(sample.image.tobytes() + sample.mask.tobytes()).hexdigest()


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_same_arguments_give_the_same_bytes_and_other_seeds_give_other_images(kind):
    defect = defects_of(kind)[0]
    assert digest(render(kind, defect, 7)) == digest(render(kind, defect, 7))
    assert len({digest(render(kind, defect, seed)) for seed in range(4)}) == 4


@pytest.mark.parametrize(("kind", "defect"), PAIRS)
def test_a_defect_changes_the_normal_image_only_inside_its_mask(kind, defect):
    for seed in range(3):
        normal, spoilt = render(kind, None, seed), render(kind, defect, seed)
        changed = (normal.image != spoilt.image).any(axis=2)
        assert not changed[~spoilt.mask].any()
        difference = np.abs(normal.image.astype(int) - spoilt.image).max(axis=2)
        assert (difference[spoilt.mask] >= 8).mean() > 0.3  # the others are between or inside changed pixels
        assert 0.001 < spoilt.mask.mean() < 0.5


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_normal_image_has_an_empty_mask_and_no_place(kind):
    sample = render(kind, None, 3)
    assert sample.image.shape == (128, 128, 3) and sample.image.dtype == np.uint8
    assert sample.mask.dtype == np.bool_ and not sample.mask.any()
    assert (sample.defect, sample.place, sample.extent) == ("good", "", "")
    assert sample.image.std() > 2


def test_other_sizes_show_the_same_scene():
    small, large = render("tile", None, 5, size=64), render("tile", None, 5, size=256)
    shrunk = large.image.reshape(64, 4, 64, 4, 3).mean((1, 3)).mean(axis=2)
    assert small.image.shape == (64, 64, 3)
    assert abs(shrunk.mean() - small.image.mean()) < 15


def test_place_and_extent_describe_the_mask():
    for seed in range(30):
        sample = render("leather", "stain", seed)
        rows, columns = np.nonzero(sample.mask)
        assert ("top" in sample.place) == (rows.mean() < 128 / 3)
        assert ("right" in sample.place) == (columns.mean() >= 2 * 128 / 3)
        assert (sample.extent == "large") == (sample.mask.mean() >= 0.05)


def test_held_out_kinds_and_defects_are_disjoint_from_those_for_training():
    assert sorted((*TRAINING_KINDS, *HELD_OUT_KINDS)) == sorted(KINDS)
    assert sorted((*TRAINING_DEFECTS, *HELD_OUT_DEFECTS)) == sorted(DEFECTS)
    assert len(TRAINING_KINDS) >= 16 and len(DEFECTS) >= 10
    assert not set(AUXILIARY_KINDS) & set(KINDS)
    for kind in EVERY_KIND:
        assert set(defects_of(kind)) <= set(DEFECTS)


def test_names_are_unique_and_every_defect_has_a_wording():
    names = [name for kind in (*KINDS.values(), *AUXILIARY_KINDS.values()) for name in kind.names]
    assert len(set(names)) == len(names)
    assert all(display_name(kind) == KINDS[kind].names[0] for kind in KINDS)
    assert set(DEFECT_NOUNS) == set(DEFECT_SENTENCES) == set(DEFECTS)


def test_captions_depend_on_the_seed_name_the_class_and_vary():
    sample = render("nut", "scratch", 1)
    captions = [describe(sample, np.random.default_rng(seed)) for seed in range(200)]
    assert captions == [describe(sample, np.random.default_rng(seed)) for seed in range(200)]
    assert all("nut" in caption.text and caption.name in caption.text for caption in captions)
    assert len({caption.text for caption in captions}) > 100


def test_a_caption_contains_its_listed_facts():
    for seed in range(200):
        sample = render("leather", "stain" if seed % 2 else None, seed % 8)
        caption = describe(sample, np.random.default_rng(seed))
        said = caption.facts
        assert said.kind == "leather"
        assert said.defect in (sample.defect, "") and (said.defect == "good") == (sample.defect == "good")
        for word, true_word in ((said.colour, sample.colour), (said.place, sample.place), (said.extent, sample.extent)):
            assert word in (true_word, "") and word in caption.text


@pytest.mark.parametrize(
    ("kind", "defect", "message"),
    [
        ("scew", None, "unknown synthetic kind 'scew'; did you mean 'screw'?"),
        ("screw", "scrach", "unknown synthetic defect 'scrach'; did you mean 'scratch'?"),
        ("brain", "scratch", "kind 'brain' has no defect 'scratch'; it has bright_lesion, dark_lesion"),
    ],
)
def test_unknown_names_are_refused_with_one_line(kind, defect, message):
    with pytest.raises(InputError) as error:
        render(kind, defect, 0)
    assert str(error.value) == message


def test_an_image_below_the_smallest_size_is_refused():
    with pytest.raises(InputError, match="at least 32 pixels; got 16"):
        render("wood", None, 0, size=16)
