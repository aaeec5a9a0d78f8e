"""Compare metrics of counted pixels with scikit-learn on the same maps, and bound the loss by counting."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from kanoclip.metrics import metrics_of
from kanoclip.metrics.aupro import aupro, region_weights
from kanoclip.metrics.classification import auroc, average_precision, f1_max, f1_max_threshold
from kanoclip.metrics.counts import HALF, LEVEL_BITS, Counts, Levels, Truth, decode, encode
from kanoclip.metrics.ranking import UndefinedMetricError, rank

WHOLE = Levels.between(0.0, 1.0)


def counted(maps, masks, levels=None):
    maps = np.asarray(maps, np.float32)
    levels = levels or Levels.between(maps.min(), maps.max())
    counts = Counts(levels)
    counts.add(torch.from_numpy(maps), Truth.of(masks))
    return counts


def scene(seed, spread=1.0, n=4, size=40):
    """Return masks with several regions each, one empty mask, and logits of maps equal to the masks plus noise."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((n, size, size), bool)
    for mask in masks[1:]:
        for y, x in generator.integers(0, size - 8, (3, 2)):
            mask[y : y + 6, x : x + 8] = True
    return spread * (generator.normal(size=masks.shape) + 1.5 * masks), masks


def every_kind_of_number():
    """Return ascending fp32 numbers in 0..1: the smallest, neighbours of 0.5 and of 1, and many in between."""
    generator = np.random.default_rng(0)
    small = 2.0 ** generator.uniform(-140, -1, 5000)
    near = [np.nextafter(np.float32(x), np.float32(to)) for x, to in [(0, 1), (0.5, 0), (0.5, 1), (1, 0)]]
    numbers = np.r_[0, 0.5, 1, near, small, 1 - small, generator.random(5000)].astype(np.float32)
    return np.unique(numbers)


def test_the_code_is_strictly_monotone_and_lossless():
    numbers = every_kind_of_number()
    codes = encode(torch.from_numpy(numbers)).numpy()
    assert (np.diff(codes.astype(np.int64)) > 0).all()
    assert (decode(codes) == numbers).all()
    assert encode(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0, HALF, 2 * HALF]


def test_every_fp16_and_bf16_number_has_its_own_level():
    half = np.arange(0, np.float16(1).view(np.uint16) + 1, dtype=np.uint16).view(np.float16).astype(np.float32)
    brain = (np.arange(0, 0x3F80 + 1, dtype=np.uint32) << 16).view(np.float32)
    for numbers in (half, brain):
        found = WHOLE.of(torch.from_numpy(numbers)).numpy()
        assert (np.diff(found) > 0).all()
        assert (WHOLE.values(found) == numbers).all()


@pytest.mark.parametrize("levels", [WHOLE, Levels.between(0.001, 0.999)])
def test_a_level_begins_at_its_value_and_is_narrow(levels):
    lowest, highest = decode(np.array([levels.low, levels.high]))
    numbers = every_kind_of_number()
    numbers = numbers[(numbers >= lowest) & (numbers <= highest)]
    values = levels.values(levels.of(torch.from_numpy(numbers)).numpy())
    assert (values <= numbers).all()
    usual = numbers[numbers > 2.0**-126].astype(float)
    to_the_end = np.minimum(usual, 1 - values[-len(usual) :])
    assert (usual - values[-len(usual) :] <= (2.0**-12 if levels is WHOLE else 2.0**-15) * to_the_end).all()
    ends = levels.of(torch.tensor([lowest, highest], dtype=torch.float32))
    assert ends.tolist() == [0, len(levels) - 1] and len(levels) <= 2**LEVEL_BITS + 1


def test_in_a_narrow_range_every_number_has_its_own_level():
    levels = Levels.between(0.5, 0.51)
    assert levels.dropped_bits == 0
    numbers = np.arange(0x3F000000, 0x3F000000 + 1000, dtype=np.int32).view(np.float32)
    # fp32 uses every second code here
    assert np.diff(levels.of(torch.from_numpy(numbers)).numpy()).tolist() == [2] * 999


@pytest.mark.parametrize("kind", [np.float16, "saturated", "few values", "all equal"])
def test_metrics_of_fp16_maps_equal_scikit_learn(kind):
    logits, masks = scene(0, spread=8.0 if kind == "saturated" else 1.0)
    maps = expit(logits).astype(np.float16)
    maps = {"few values": np.round(maps, 1), "all equal": np.full_like(maps, 0.3)}.get(kind, maps)
    ranking = counted(maps, masks, WHOLE).ranking()
    truth, scores = masks.ravel(), maps.ravel().astype(float)
    precision, recall, _ = precision_recall_curve(truth, scores)
    assert auroc(ranking) == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
    assert average_precision(ranking) == pytest.approx(average_precision_score(truth, scores), abs=1e-9)
    assert f1_max(ranking) == pytest.approx(np.max(2 * precision * recall / (precision + recall + 1e-300)), abs=1e-9)


@pytest.mark.parametrize("spread", [0.01, 1.0, 6.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_error_of_fp32_auroc_is_at_most_the_share_of_tied_pairs(seed, spread):
    logits, masks = scene(seed, spread)
    maps = expit(logits).astype(np.float32)
    for levels in (WHOLE, Levels.between(maps.min(), maps.max())):
        counts = counted(maps, masks, levels)
        pairs = float(counts.positives.sum()) * counts.negatives.sum()
        bound = 0.5 * np.sum(counts.positives * counts.negatives) / pairs
        exact = roc_auc_score(masks.ravel(), maps.ravel())
        assert abs(auroc(counts.ranking()) - exact) <= bound + 1e-12
    assert auroc(counts.ranking()) == pytest.approx(exact, abs=5e-6)  # with the levels of these maps


def test_the_f1_threshold_applies_to_the_fp32_maps_unchanged():
    logits, masks = scene(1)
    maps = expit(logits).astype(np.float32)
    ranking = counted(maps, masks, WHOLE).ranking()
    found = maps.astype(float) >= f1_max_threshold(ranking)
    assert f1_max(ranking) == pytest.approx(f1_score(masks.ravel(), found.ravel()), abs=1e-12)
    assert f1_max(ranking) <= f1_max(rank(maps[masks], maps[~masks])) + 1e-12


@pytest.mark.parametrize("shift", [-12.0, 12.0])
def test_maps_that_saturate_at_either_end_keep_their_order(shift):
    logits, masks = scene(2)
    maps = expit(logits + shift).astype(np.float32)
    assert auroc(counted(maps, masks).ranking()) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-6)
    plain = maps.astype(np.float16).astype(float)
    if shift > 0:  # plain fp16 would not keep it
        assert roc_auc_score(masks.ravel(), plain.ravel()) < roc_auc_score(masks.ravel(), maps.ravel()) - 0.1


def test_counts_of_parts_sum_to_those_of_the_whole():
    logits, masks = scene(3, n=6)
    maps = expit(logits).astype(np.float32)
    levels = Levels.between(maps.min(), maps.max())
    whole, parts = counted(maps, masks, levels), Counts(levels)
    for part in (slice(4, 6), slice(0, 4)):
        parts.add(torch.from_numpy(maps[part]), Truth.of(masks[part]))
    assert (parts.positives == whole.positives).all() and (parts.negatives == whole.negatives).all()
    np.testing.assert_allclose(parts.weights, whole.weights, atol=1e-12)
    for metric in metrics_of("pixel"):
        found, expected = (replace(counts.ranking(), decision=0.5) for counts in (parts, whole))
        assert metric.compute(found) == pytest.approx(metric.compute(expected), abs=1e-12)


def test_weights_equal_those_of_the_regions():
    logits, masks = scene(4)
    counts = counted(expit(logits), masks)
    assert counts.weights.sum() == pytest.approx(sum(region_weights(mask).sum() for mask in masks))
    assert counts.positives.sum() == masks.sum() and counts.negatives.sum() == (~masks).sum()


def test_values_a_rounding_error_outside_the_range_are_counted_at_its_ends():
    maps = np.array([[[0.25, np.nextafter(np.float32(0.25), np.float32(0))]], [[1.0, 1.0000001]]], np.float32)
    counts = counted(maps, np.array([[[False, False]], [[True, True]]]), Levels.between(0.25, 1.0))
    assert counts.negatives[0] == 2 and counts.positives[-1] == 2


BY_ORDER = [m for m in metrics_of("pixel") if m.name not in ("aupro_200", "f1_auxiliary", "fpr_auxiliary")]


@pytest.mark.parametrize("metric", BY_ORDER, ids=lambda m: m.name)
def test_only_the_order_of_scores_matters(metric):
    logits, masks = scene(5)
    generator = np.random.default_rng(5)
    place = np.digitize(logits, np.linspace(-2, 3, 60))
    first, second = (np.sort(generator.random(61)).astype(np.float32)[place] for _ in range(2))
    expected = metric.compute(counted(first, masks).ranking())
    assert metric.compute(counted(second, masks).ranking()) == pytest.approx(expected, abs=1e-12)
    order = generator.permutation(len(masks))
    assert metric.compute(counted(first[order], masks[order]).ranking()) == pytest.approx(expected, abs=1e-12)


def test_perfect_maps_have_one_and_a_constant_map_one_half():
    masks = scene(6)[1]
    oracle, constant = counted(masks, masks).ranking(), counted(np.full(masks.shape, 0.7), masks).ranking()
    assert [compute(oracle) for compute in (auroc, average_precision, f1_max, aupro)] == [1, 1, 1, 1]
    assert auroc(constant) == 0.5
    assert average_precision(constant) == pytest.approx(masks.mean())


@pytest.mark.parametrize(("value", "reason"), [(False, "all normal"), (True, "all anomalous")])
def test_pixels_of_one_label_give_a_reason_and_no_value(value, reason):
    counts = counted(np.full((1, 4, 4), 0.5), np.full((1, 4, 4), value))
    with pytest.raises(UndefinedMetricError, match=reason):
        counts.ranking()
