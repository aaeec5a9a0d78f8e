"""Scores are equal from every source, each batch is computed once for all rows, only controls see the ground truth."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Features, Tap
from kanoclip.config import Strict
from kanoclip.datasets.index import read_index
from kanoclip.features import CachedFeatures, FeatureCache, LiveFeatures
from kanoclip.methods import AnomalyOutput, Batch, Method, method_class, method_names
from kanoclip.methods.batch import ClassScores
from kanoclip.methods.controls import Oracle, Random
from kanoclip.scoring import Scorer, ScoresInProgress, run_pass, score
from kanoclip.types import InputError

CLS, VV = Tap("cls", 6), Tap("vv", 3)


class Reader(Method[Strict]):
    """A row that reads some taps; its scores are the sigmoid of their sum."""

    taps: frozenset[Tap] = frozenset()

    @classmethod
    def reads(cls, options: Strict, tower: TowerShape) -> frozenset[Tap]:
        return cls.taps

    def forward(self, batch: Batch) -> AnomalyOutput:
        assert batch.features.keys() == self.taps
        total = sum(value.flatten(1).sum(1) for value in batch.features.values()).sigmoid()
        return AnomalyOutput(total.view(-1, 1, 1).expand(-1, 4, 4), image_score=total)


class ReadsLast(Reader):
    taps = frozenset({CLS})


class ReadsThird(Reader):
    taps = frozenset({VV})


class ReadsBoth(Reader):
    taps = frozenset({CLS, VV})


@pytest.fixture
def frame(index: Path) -> pd.DataFrame:
    return read_index(index)


@pytest.fixture
def encoded(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, frozenset[Tap]]]]:
    """Record the number of images and the taps of each run of the tower."""
    runs: list[tuple[int, frozenset[Tap]]] = []
    encode = Backbone.encode_images

    def counted(pixels: torch.Tensor, taps: frozenset[Tap]) -> Features:
        runs.append((len(pixels), frozenset(taps)))
        return encode(backbone, pixels, taps)

    monkeypatch.setattr(backbone, "encode_images", counted)
    return runs


def scorers(kinds: list[type[Method]], backbone: Backbone, frame: pd.DataFrame, folder: Path) -> list[Scorer]:
    """Return one row per method; each stores its progress below the folder."""
    found = []
    for number, kind in enumerate(kinds):
        place = folder / str(number)
        place.mkdir(parents=True, exist_ok=True)
        found.append(Scorer(kind(backbone, kind.Options(), 0), ScoresInProgress(place, frame)))
    return found


def kept(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.load(folder / f"{name}.npy") for name in ("map", "image_score", "checksum")}


def test_methods_never_see_the_ground_truth_and_the_oracle_does(
    frame: pd.DataFrame, features: Path, backbone: Backbone
) -> None:
    source = CachedFeatures(FeatureCache(features, frame), backbone)
    seen: list[Batch] = []

    class Spy(Random):
        def forward(self, batch: Batch) -> AnomalyOutput:
            seen.append(batch)
            return super().forward(batch)

    score(Spy(backbone, Spy.Options(), 0), source, frame)
    assert len(seen) == 1 and all(batch.labels is None and batch.masks is None for batch in seen)
    with pytest.raises(ValueError, match="known in training only"):
        _ = seen[0].truth
    maps, scores = score(Oracle(backbone, Oracle.Options(), 0), source, frame, batch_size=3)
    assert scores.tolist() == frame["label"].tolist()
    assert (maps.max((1, 2)) == frame["label"].to_numpy()).all()


@pytest.mark.parametrize("name", method_names())
def test_a_method_scores_the_same_from_a_cache_and_live(
    name: str, frame: pd.DataFrame, features: Path, backbone: Backbone
) -> None:
    """Scores are identical in the batches of the cache, and equal up to rounding in others."""
    kind = method_class(name)
    torch.manual_seed(0)
    method = kind(backbone, kind.Options(), 0)
    cache = FeatureCache(features, frame)
    maps, scores = score(method, CachedFeatures(cache, backbone), frame, batch_size=5)
    for source in (LiveFeatures(frame, backbone, workers=2), CachedFeatures(cache, backbone, keep=True)):
        live_maps, live_scores = score(method, source, frame, batch_size=5)
        assert np.array_equal(live_maps, maps) and np.array_equal(live_scores, scores)
    assert len(maps) == len(scores) == len(frame)
    other_maps, other_scores = score(method, LiveFeatures(frame, backbone), frame, batch_size=7)
    np.testing.assert_allclose(other_maps, maps, atol=5e-3)
    np.testing.assert_allclose(other_scores, scores, atol=5e-3)


def test_part_of_an_index_gets_the_scores_of_the_whole_index(frame: pd.DataFrame, backbone: Backbone) -> None:
    source, method = LiveFeatures(frame, backbone), ReadsBoth(backbone, Strict(), 0)
    some = frame[frame["class_name"] == "nut"]
    _, everything = score(method, source, frame)
    _, found = score(method, source, some)
    np.testing.assert_allclose(found, everything[some.index], atol=1e-3)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_the_tower_runs_once_per_batch_however_many_rows(
    rows: int, frame: pd.DataFrame, backbone: Backbone, encoded: list, tmp_path: Path
) -> None:
    kinds = [*[ReadsBoth, ReadsThird, ReadsLast, Random] * 2][:rows]
    calls: Counter[int] = Counter()
    hooks = [
        block.register_forward_hook(lambda *_, n=n: calls.update([n])) for n, block in enumerate(backbone.blocks, 1)
    ]
    work = scorers(kinds, backbone, frame, tmp_path)
    run_pass(work, LiveFeatures(frame, backbone), frame, batch_size=6)
    for hook in hooks:
        hook.remove()
    assert encoded == [(6, ReadsBoth.taps), (6, ReadsBoth.taps), (4, ReadsBoth.taps)]
    assert calls == dict.fromkeys(range(1, 7), 3)
    for number, scorer in enumerate(work):
        maps, scores = score(scorer.method, LiveFeatures(frame, backbone), frame, batch_size=6)
        found = kept(tmp_path / str(number))
        assert np.array_equal(found["map"], maps) and np.array_equal(found["image_score"], scores)
        assert found["checksum"].all() and scorer.failed is None


def test_only_taps_of_rows_with_missing_results_are_computed(
    frame: pd.DataFrame, backbone: Backbone, encoded: list, tmp_path: Path
) -> None:
    """The row that reads the last block has finished 12 of 16 images, the other one 6, in batches of 6, 6 and 4."""
    last, third = scorers([ReadsLast, ReadsThird], backbone, frame, tmp_path)
    for scorer, done in ((last, 12), (third, 6)):
        alone = score(scorer.method, LiveFeatures(frame, backbone), frame, batch_size=6)
        scorer.scores.write(range(done), alone[0][:done], alone[1][:done], 1.0)
    encoded.clear()
    run_pass([last, third], LiveFeatures(frame, backbone), frame, batch_size=6)
    assert encoded == [(6, frozenset({VV})), (4, frozenset({CLS, VV}))]
    again = scorers([ReadsLast, ReadsThird], backbone, frame, tmp_path)
    assert again[0].scores.seconds > 1.0  # including those of the first process
    run_pass(again, LiveFeatures(frame, backbone), frame, batch_size=6)
    assert len(encoded) == 2  # all images were done
    for number, scorer in enumerate(again):
        maps, scores = score(scorer.method, LiveFeatures(frame, backbone), frame, batch_size=6)
        found = kept(tmp_path / str(number))
        assert np.array_equal(found["map"], maps) and np.array_equal(found["image_score"], scores)


def test_rows_without_taps_do_not_run_the_tower(
    frame: pd.DataFrame, backbone: Backbone, encoded: list, tmp_path: Path
) -> None:
    run_pass(scorers([Random, Oracle], backbone, frame, tmp_path), LiveFeatures(frame, backbone), frame)
    assert encoded == []
    assert kept(tmp_path / "1")["image_score"].tolist() == frame["label"].tolist()


@pytest.mark.parametrize(
    ("field", "broken"), [("map", [5]), ("image_score", [5]), ("map", list(range(16))), ("map", [1, 9, 14])]
)
def test_a_row_with_non_finite_scores_stops_and_other_rows_continue(
    frame: pd.DataFrame, backbone: Backbone, tmp_path: Path, field: str, broken: list[int]
) -> None:
    """The error names the first such image, however many follow, and the row computes no further batch."""
    images: list[str] = []

    class Broken(Random):
        def forward(self, batch: Batch) -> AnomalyOutput:
            images.extend(batch.images)
            output = super().forward(batch)
            rows = torch.tensor([name in frame["image"][broken].tolist() for name in batch.images])
            getattr(output, field)[rows] = float("nan")
            return output

    bad, good = scorers([Broken, ReadsBoth], backbone, frame, tmp_path)
    run_pass([bad, good], LiveFeatures(frame, backbone), frame, batch_size=4)
    assert str(bad.failed) == f"{frame['image_path'][broken[0]]}: its {field} is not finite"
    assert good.failed is None and kept(tmp_path / "1")["checksum"].all()
    assert len(images) <= 4 * (broken[0] // 4 + 2)  # one more batch was already started
    with pytest.raises(InputError, match="is not finite"):
        score(bad.method, LiveFeatures(frame, backbone), frame)


class Ranked(ReadsLast):
    """A transductive row: the scores of a class depend on all of its images."""

    def after_class(self, maps: NDArray[np.float32], scores: NDArray[np.float32]) -> ClassScores:
        assert len(maps) == len(scores) == 8  # the images of a class
        low, high = float(maps.min()), float(maps.max())
        return ClassScores(1 / (high - low), -low / (high - low), scores.argsort().argsort().astype(np.float32) / 10)


def test_transductive_scores_are_computed_per_class(backbone: Backbone, frame: pd.DataFrame, tmp_path: Path) -> None:
    """Compare with the raw scores of the same row, class by class; the order of the index does not matter."""
    source = LiveFeatures(frame, backbone)
    maps, scores = score(ReadsLast(backbone, Strict(), 0), source, frame)
    mixed = frame.iloc[np.random.default_rng(0).permutation(len(frame))]
    found = score(Ranked(backbone, Strict(), 0), source, mixed, batch_size=3)
    (scorer,) = scorers([Ranked], backbone, frame, tmp_path)
    run_pass([scorer], source, frame)
    for attempt in ("first", "again"):  # a process killed in between starts from the same raw scores
        scorer.scores.finish(tmp_path / f"{attempt}.h5", {}, scorer.method.after_class)
    assert (tmp_path / "first.h5").read_bytes() == (tmp_path / "again.h5").read_bytes()
    with h5py.File(tmp_path / "again.h5") as file:
        final = file["map"][:], file["image_score"][:]
    for name in ("nut", "bolt"):
        rows = (frame["class_name"] == name).to_numpy()
        of_class = maps[rows]
        expected = (of_class - of_class.min()) / (of_class.max() - of_class.min())
        np.testing.assert_allclose(final[0][rows], expected, atol=1e-5)
        np.testing.assert_allclose(final[1][rows], pd.Series(scores[rows]).rank().to_numpy() / 10 - 0.1, atol=1e-6)
    order = mixed.index.to_numpy().argsort()
    np.testing.assert_allclose(found[0][order], final[0], atol=1e-5)
    np.testing.assert_array_equal(found[1][order], final[1])
