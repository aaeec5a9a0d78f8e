import numpy as np
import pytest

from kanoclip.datasets.synthetic import render
from kanoclip.pretraining.codes import DEFECT, EXTENT, NOTHING, PLACE, STATE, UNKNOWN
from kanoclip.pretraining.corpus import LEAST_ANOMALOUS_PIXELS, draw_corpus, views


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return draw_corpus(
        tmp_path_factory.mktemp("corpus"), ["screw", "brain", "wood"], ["crack", "dark_lesion"], 12, seed=50
    )


def test_pairs_equal_the_images_of_the_generator(corpus):
    assert corpus.images.shape == (24, 128, 128, 3)
    sample = render(corpus.facts[5].kind, corpus.facts[5].defect, seed=52)
    assert np.array_equal(corpus.images[5], sample.image)
    assert np.array_equal(corpus.mask(np.array([5]))[0], sample.mask)
    assert [row.defect == "good" for row in corpus.facts] == [True, False] * 12
    assert {(row.kind, row.defect) for row in corpus.facts[1::2]} == {
        ("screw", "crack"),
        ("brain", "dark_lesion"),
        ("wood", "crack"),
    }


def test_existing_images_are_not_drawn_again(corpus, tmp_path):
    first = draw_corpus(tmp_path, ["wood"], ["crack"], 1, seed=0)
    stamp = (tmp_path / "images.npy").stat().st_mtime_ns
    again = draw_corpus(tmp_path, ["wood"], ["crack"], 1, seed=0)
    assert (tmp_path / "images.npy").stat().st_mtime_ns == stamp
    assert again.facts == first.facts


def test_whole_views_equal_the_images(corpus):
    batch = views(corpus, 8, 128, np.random.default_rng(0))
    assert np.array_equal(batch.images, corpus.images[batch.rows])
    assert np.array_equal(batch.numbers, corpus.numbers[batch.rows])


def test_labels_of_small_views_state_only_visible_facts(corpus):
    for seed in range(20):
        batch = views(corpus, 24, 64, np.random.default_rng(seed))
        assert batch.images.shape == (24, 64, 64, 3) and batch.masks.shape == (24, 64, 64)
        for index, row in enumerate(batch.rows):
            numbers, original, pixels = batch.numbers[index], corpus.numbers[row], int(batch.masks[index].sum())
            if original[STATE] == 0 or pixels == 0:
                assert numbers[STATE] == 0 and (numbers[[DEFECT, PLACE, EXTENT]] == NOTHING).all()
            elif numbers[STATE] == UNKNOWN:
                assert 0 < pixels < LEAST_ANOMALOUS_PIXELS
            else:
                assert numbers[STATE] == 1 and numbers[DEFECT] == original[DEFECT]


def test_views_depend_only_on_the_random_generator(corpus):
    first, second = (views(corpus, 8, 64, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first.images, second.images) and np.array_equal(first.numbers, second.numbers)
