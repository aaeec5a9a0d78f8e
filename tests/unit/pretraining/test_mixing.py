import numpy as np
import pytest

from kanoclip.datasets.synthetic import TRAINING_DEFECTS, TRAINING_KINDS
from kanoclip.pretraining.codes import COLOUR, KIND, PLACE, STATE, UNKNOWN
from kanoclip.pretraining.corpus import Corpus, draw_corpus
from kanoclip.pretraining.mixing import mixed_views, recoloured


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return draw_corpus(tmp_path_factory.mktemp("corpus"), TRAINING_KINDS, TRAINING_DEFECTS, 30, 0)


def test_pairs_differ_inside_the_mask_and_only_by_noise_outside(corpus):
    """Outside the mask, only the independent noise of each image differs."""
    inside, outside = [], []
    for seed in range(6):
        batch = mixed_views(corpus, 20, np.random.default_rng(seed))
        normal, spoiled = batch.images[0::2].astype(float), batch.images[1::2].astype(float)
        difference, mask = np.abs(spoiled - normal).mean(axis=3), batch.masks[1::2]
        assert not batch.masks[0::2].any()
        inside += [row[where].mean() for row, where in zip(difference, mask, strict=True) if where.any()]
        outside += [row[~where].mean() for row, where in zip(difference, mask, strict=True)]
    assert np.median(inside) > 4 * np.median(outside)
    assert np.mean(np.array(outside) < 10) > 0.9


def test_labels_state_only_facts_that_are_still_known(corpus):
    batch = mixed_views(corpus, 60, np.random.default_rng(1))
    pixels = batch.masks.sum((1, 2))
    assert (batch.numbers[0::2, STATE] == 0).all()
    assert (pixels[batch.numbers[:, STATE] == 1] >= 16).all()
    assert (pixels[batch.numbers[:, STATE] == 0] == 0).all()
    assert (batch.numbers[:, COLOUR] == UNKNOWN).all()
    assert (batch.numbers[batch.numbers[:, STATE] == 1, PLACE] == UNKNOWN).all()
    crossed = np.mean(batch.numbers[:, KIND] == UNKNOWN)
    assert 0.4 < crossed < 0.95  # 70 % are blended, transplanted or from another image
    kept = batch.numbers[:, KIND] != UNKNOWN
    assert (batch.numbers[kept, KIND] == corpus.numbers[batch.rows[kept], KIND]).all()


def test_the_same_generator_gives_the_same_batch(corpus):
    first, again = (mixed_views(corpus, 8, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first.images, again.images) and np.array_equal(first.masks, again.masks)


def test_both_images_of_a_pair_are_recoloured_alike():
    view = np.random.default_rng(0).uniform(60, 200, (1, 16, 16, 3)).repeat(2, axis=0).astype(np.float32)
    for seed in range(30):
        first, second = recoloured(view, np.random.default_rng(seed))
        assert np.abs(first - second).mean() < 12  # each image has noise of at most 8
