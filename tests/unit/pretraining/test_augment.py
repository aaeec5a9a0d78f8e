"""Batches of pairs and what is done to them: both images of a pair change alike, and labels state what is visible."""

import numpy as np
import pytest
import torch

from kanoclip.datasets.synthetic import TRAINING_DEFECTS, TRAINING_KINDS
from kanoclip.datasets.synthetic.render import VISIBLE
from kanoclip.pretraining.augment import BLEND, FOREIGNER, OWN, TRANSPLANT, Draw, framed, mixed, recoloured
from kanoclip.pretraining.batches import DevicePool, device_views, numbers_of_views
from kanoclip.pretraining.codes import DEFECT, KIND, NOTHING, STATE, UNKNOWN
from kanoclip.pretraining.corpus import LEAST_ANOMALOUS_PIXELS, draw_corpus

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return draw_corpus(tmp_path_factory.mktemp("corpus"), TRAINING_KINDS, TRAINING_DEFECTS, 30, 0)


@pytest.fixture(scope="module")
def pool(corpus):
    return DevicePool(corpus, CPU, grouped=False)


def draw(seed: int = 0) -> Draw:
    return Draw(torch.Generator().manual_seed(seed))


def test_pairs_equal_those_of_the_corpus(corpus, pool):
    images, masks = pool.pairs(torch.tensor([4, 9]))
    assert np.array_equal(images[1, 1].permute(1, 2, 0).numpy().astype(np.uint8), corpus.images[19])
    assert np.array_equal(masks[0].numpy().astype(bool), corpus.mask(np.array([9]))[0])


def test_grouped_pools_return_all_pairs_of_a_surface(corpus):
    chosen = DevicePool(corpus, CPU, grouped=True).choose(8, torch.Generator().manual_seed(0))
    assert (chosen[1::2] == chosen[0::2] + 1).all() and (chosen[0::2] % 2 == 0).all()
    assert len(set(chosen.tolist())) == 8


@pytest.mark.parametrize("size", [64, 128])
def test_the_mask_is_cropped_like_the_images(size):
    """Images that equal their masks still equal them after cropping, except at interpolated edges."""
    mask = torch.zeros(8, 128, 128)
    mask[:, 30:90, 50:80] = 1
    images = (mask * 255)[:, None, None].expand(-1, 2, 3, -1, -1).clone()
    views, masks = framed(images, mask, size, draw())
    assert views.shape == (8, 2, 3, size, size) and masks.shape == (8, size, size)
    assert torch.equal(views[:, 0], views[:, 1])
    assert ((views[:, 0, 0] > 0.35 * 255) == masks.bool()).all()
    assert masks.flatten(1).any(dim=1).float().mean() > 0.6


def test_crossing_keeps_pairs_equal_outside_the_mask(pool):
    images, masks = pool.pairs(torch.arange(30))
    found = set()
    for seed in range(4):
        views, where, mode = mixed(images, masks, draw(seed))
        difference = (views[:, 1] - views[:, 0]).abs().amax(dim=1)
        assert difference[where == 0].max() < 1e-3
        found |= set(mode.tolist())
        moved = (mode == TRANSPLANT) | (mode == FOREIGNER)
        assert (difference[moved][where[moved] > 0] >= VISIBLE).all()
        assert (where[moved].sum((1, 2)) >= LEAST_ANOMALOUS_PIXELS).all()
        assert torch.equal(views[mode == OWN], images[mode == OWN])
    assert found == {OWN, BLEND, TRANSPLANT, FOREIGNER}


def test_both_images_of_a_pair_are_recoloured_alike():
    images = torch.rand(40, 1, 3, 32, 32).mul(255).expand(-1, 2, -1, -1, -1).contiguous()
    views = recoloured(images, draw())
    assert views.min() >= 0 and views.max() <= 255
    distance = (views[:, 0] - views[:, 1]).abs().mean((1, 2, 3))
    assert distance.max() < 12 and (distance == 0).float().mean() > 0.4  # some images have noise of at most 9
    assert (views - images).abs().mean() > 10


def test_labels_state_only_facts_that_are_still_known():
    numbers = np.array([[0, 3, NOTHING, 1, NOTHING, NOTHING], [1, 3, 5, 1, 2, 0]] * 5, np.int16)
    pixels, mode = np.array([500, 0, 5, 500, 500]), np.array([OWN, OWN, OWN, BLEND, TRANSPLANT])
    seen = numbers_of_views(numbers, pixels, mode)
    assert (seen[0::2, STATE] == 0).all()
    assert seen[1::2, STATE].tolist() == [1, 0, UNKNOWN, 1, 1]
    assert seen[1::2, DEFECT].tolist() == [5, NOTHING, UNKNOWN, 5, UNKNOWN]
    assert seen[1::2, KIND].tolist() == [3, 3, 3, UNKNOWN, UNKNOWN]


@pytest.mark.parametrize("size", [64, 128])
def test_the_same_seed_gives_the_same_batch(corpus, pool, size):
    pools = [pool, DevicePool(corpus, CPU, grouped=True)]
    first, again, other = (device_views(pools, 16, size, (1, step)) for step in (5, 5, 6))
    assert torch.equal(first.images, again.images) and np.array_equal(first.numbers, again.numbers)
    assert not torch.equal(first.images, other.images)
    assert first.images.shape == (16, 3, size, size) and len(first.facts) == 16
    pixels = first.masks.sum((1, 2)).numpy()
    assert (pixels[first.numbers[:, STATE] == 0] == 0).all()
    assert (pixels[first.numbers[:, STATE] == 1] >= LEAST_ANOMALOUS_PIXELS).all()
