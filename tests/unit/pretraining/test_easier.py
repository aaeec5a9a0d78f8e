import numpy as np
import pytest
import torch

from kanoclip.datasets.synthetic import TRAINING_DEFECTS, TRAINING_KINDS
from kanoclip.pretraining import easier
from kanoclip.pretraining.augment import Draw
from kanoclip.pretraining.batches import DevicePool
from kanoclip.pretraining.codes import STATE
from kanoclip.pretraining.composites import VISIBLE
from kanoclip.pretraining.corpus import LEAST_ANOMALOUS_PIXELS, draw_corpus
from kanoclip.pretraining.easier import contrasted, crude, easier_views, mildly_recoloured

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    corpus = draw_corpus(tmp_path_factory.mktemp("corpus"), TRAINING_KINDS, TRAINING_DEFECTS, 30, 0)
    return DevicePool(corpus, CPU, grouped=False)


def draw(seed: int = 0) -> Draw:
    return Draw(torch.Generator().manual_seed(seed))


def test_contrast_scales_only_the_defect_and_decreases():
    normal = torch.full((4, 3, 8, 8), 100.0)
    pairs = torch.stack([normal, normal + 10], dim=1)
    early, late = (contrasted(pairs, progress, draw()) for progress in (0.0, 1.0))
    for found, (low, high) in ((early, easier.FIRST_CONTRAST), (late, easier.LAST_CONTRAST)):
        assert torch.equal(found[:, 0], normal)
        step = (found[:, 1] - normal) / 10
        assert (step >= low - 1e-5).all() and (step <= high + 1e-5).all()
    assert ((early[:, 1] - normal) > (late[:, 1] - normal)).all()


def test_crude_defects_are_inside_their_masks_and_other_pairs_unchanged(pool):
    images, masks = pool.pairs(torch.arange(30))
    found, where, replaced = crude(images, masks, draw(3))
    assert 0 < replaced.sum() < 30
    assert torch.equal(found[:, 0], images[:, 0])
    assert torch.equal(found[~replaced], images[~replaced]) and torch.equal(where[~replaced], masks[~replaced])
    changed = (found[replaced, 1] - found[replaced, 0]).abs().amax(1)
    assert (where[replaced].sum((1, 2)) >= LEAST_ANOMALOUS_PIXELS).all()
    assert (changed[where[replaced] > 0] >= VISIBLE).all()
    assert (changed > 0).float().mean() < 0.5


def test_new_colours_are_the_same_for_both_images_of_a_pair():
    same = torch.rand(20, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).expand(-1, 2, -1, -1, -1) * 200 + 20
    found = mildly_recoloured(same, draw())
    apart = (found[:, 0] - found[:, 1]).abs().amax((1, 2, 3))
    assert (apart == 0).float().mean() > 0.4  # images without added noise
    assert found.min() >= 0 and found.max() <= 255


def test_a_batch_has_a_label_for_every_view(pool):
    batch = easier_views([pool], 40, 128, 0.5, (1, 2))
    assert batch.images.shape == (40, 3, 128, 128) and batch.masks.shape == (40, 128, 128)
    pixels, state = batch.masks.sum((1, 2)).numpy(), batch.numbers[:, STATE]
    assert (pixels[0::2] == 0).all() and (state[0::2] == 0).all()
    assert (state[1::2][pixels[1::2] >= LEAST_ANOMALOUS_PIXELS] == 1).all()
    assert np.array_equal(easier_views([pool], 40, 128, 0.5, (1, 2)).images, batch.images)
