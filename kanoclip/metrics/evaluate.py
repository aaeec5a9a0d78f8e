"""Compute metrics.csv and curves.csv from scores.h5 and index.csv, for all methods and seeds of a target in one pass.

The index and masks of the target are read once. Results are stored by fingerprint, so that a repeated pass evaluates
only what changed.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kanoclip.datasets.index import content, read_index
from kanoclip.datasets.integrity import check_unchanged
from kanoclip.files import sha256, whole
from kanoclip.hdf5 import reading
from kanoclip.maps import scaled_sigma
from kanoclip.metrics.pixels import Maps, check, rank_pixels
from kanoclip.metrics.ranking import NO_LABELS, Ranking, UndefinedMetricError, rank
from kanoclip.metrics.results import Results
from kanoclip.metrics.scores_file import KIND, REMEDY, open_scores
from kanoclip.metrics.sealed import with_digest
from kanoclip.result_store import Store, fingerprint
from kanoclip.types import InputError, logger, progress

AT_ONCE = 32  # scores files evaluated together, with each mask read once; their counts take at most 24 MB each


@dataclass(frozen=True)
class Evaluation:
    """One scores.h5 and the files computed from it.

    Attributes:
        scores: scores.h5 of one method, target dataset and seed.
        metrics: the metrics.csv to write, with every metric of every class and the unweighted class means.
        curves: the curves.csv to write.
    """

    scores: Path
    metrics: Path
    curves: Path

    @property
    def outputs(self) -> dict[str, Path]:
        """The files to write, keyed by their names in a store."""
        return {"metrics.csv": self.metrics, "curves.csv": self.curves}


@dataclass(frozen=True)
class _Row:
    """An open scores.h5 and the results so far."""

    todo: Evaluation
    attributes: dict[str, Any]
    image_scores: NDArray[np.float32]
    maps: Maps
    results: Results


def evaluate(
    scores: Path, index: Path, out: Path, resolution: int | None = None, bootstrap: int = 1000, device: str = "cpu"
) -> None:
    """Write metrics.csv of one scores.h5, and curves.csv beside it; see `evaluate_pass`.

    Args:
        scores: scores.h5 of one method, target dataset and seed.
        index: index.csv of the target dataset.
        out: metrics.csv.
        resolution: side length in pixels at which maps and masks are compared; default: the image size of the method.
        bootstrap: the number of draws for the intervals of the image metrics; 0 for none.
        device: where maps are upsampled, smoothed and counted.
    """
    evaluate_pass([Evaluation(scores, out, out.with_name("curves.csv"))], index, resolution, bootstrap, device)


def evaluate_pass(
    todo: Sequence[Evaluation],
    index: Path,
    resolution: int | None = None,
    bootstrap: int = 1000,
    device: str = "cpu",
    store: Store | None = None,
    code: str = "",
) -> None:
    """Evaluate many scores.h5 of one target dataset.

    Maps are upsampled bilinearly, then smoothed with the Gaussian that their method specifies; masks are resized by
    nearest neighbour. The pixels of normal images count as normal.

    Args:
        todo: the scores files and what to write for each.
        index: index.csv of the target dataset.
        resolution: side length in pixels at which maps and masks are compared; default: the image size of each method.
        bootstrap: the number of draws for the intervals of the image metrics; 0 for none.
        device: where maps are upsampled, smoothed and counted.
        store: stores the results; those it holds already are not computed again. None stores nothing.
        code: a digest of the evaluation's code; when it changes, everything is computed again.

    Raises:
        InputError: the index or a mask is wrong; or, after all other files are done, some scores files are: they do not
            list the images of the index, a score is not finite, or a map has values outside 0..1.
    """
    frame = read_index(index)
    keys = _fingerprints(todo, frame, resolution=resolution, bootstrap=bootstrap, code=code) if store else {}
    left = [one for one in todo if not (store and one in keys and store.fetch(keys[one], one.outputs))]
    if len(left) < len(todo):
        logger.info("%d of %d scores files were evaluated before", len(todo) - len(left), len(todo))
    if left:
        check_unchanged(frame)
    wrong: list[InputError] = []
    with ExitStack() as stack:
        rows = []
        for one in left:
            try:
                file = stack.enter_context(open_scores(one.scores, frame, index))
                rows.append(_read(one, file, frame["image"], resolution, bootstrap, device))
            except InputError as error:
                wrong.append(error)
        for together in _groups(rows):
            for row in _evaluate(together, frame, wrong):
                _write(row, store, keys)
    if wrong:
        raise InputError("; ".join(map(str, wrong)))


def _fingerprints(
    todo: Sequence[Evaluation], frame: pd.DataFrame, **settings: str | int | None
) -> dict[Evaluation, str]:
    """Return a key for each evaluation whose scores exist, made from everything that its results depend on."""
    target = content(frame)
    return {
        one: fingerprint(result="evaluation", scores=sha256(one.scores), content=target, **settings)
        for one in todo
        if one.scores.is_file()
    }


def _read(
    todo: Evaluation, file: h5py.File, images: pd.Series, resolution: int | None, bootstrap: int, device: str
) -> _Row:
    """Read a scores.h5 except its maps, and check the image scores."""
    with reading(todo.scores, KIND, REMEDY):
        attributes = dict(file.attrs)
        image_scores, stored = file["image_score"][:], file["map"]
        sizes = int(attributes["image_size"]), float(attributes["sigma"])
        for name in ("method", "backbone", "auxiliary", "dataset", "seed"):
            attributes[name]  # noqa: B018 - metrics.csv states them
    check(todo.scores, images, np.isfinite(image_scores), "image score", "finite")
    size = sizes[0] if resolution is None else resolution
    maps = Maps(todo.scores, stored, size, scaled_sigma(sizes[1], size), device)
    return _Row(todo, attributes, image_scores, maps, Results(bootstrap))


def _groups(rows: list[_Row]) -> Iterator[list[_Row]]:
    """Split rows into groups with the same mask size, at most AT_ONCE in each."""
    by_size = attrgetter("maps.size")
    for _, same in groupby(sorted(rows, key=by_size), by_size):
        while together := list(islice(same, AT_ONCE)):
            yield together


def _evaluate(rows: list[_Row], frame: pd.DataFrame, wrong: list[InputError]) -> list[_Row]:
    """Compute the results of some rows, class by class, and return the rows that are finished.

    Args:
        rows: all with the same mask size.
        frame: the index.
        wrong: the errors of the other rows are appended here.
    """
    groups = frame.groupby("class_name", sort=True)
    for name, members in progress(groups, f"evaluate {rows[0].attributes['dataset']}", total=groups.ngroups):
        good = []
        for row, pixels in zip(rows, rank_pixels(members, [row.maps for row in rows]), strict=True):
            if isinstance(pixels, InputError):
                wrong.append(pixels)
                continue
            for level, ranking in (("image", _rank_images(members, row.image_scores)), ("pixel", pixels)):
                row.results.add(str(name), level, _with_decision(ranking, level, row.attributes))
            good.append(row)
        rows = good
        if not rows:
            break
    return rows


def _rank_images(members: pd.DataFrame, image_scores: NDArray[np.float32]) -> Ranking | UndefinedMetricError:
    if (members["label"] < 0).any():
        return UndefinedMetricError(NO_LABELS)
    anomalous = members["label"].to_numpy() == 1
    class_scores = image_scores[members.index]
    try:
        return rank(class_scores[anomalous], class_scores[~anomalous])
    except UndefinedMetricError as error:
        return error


def _with_decision(
    ranking: Ranking | UndefinedMetricError, level: str, attributes: dict[str, Any]
) -> Ranking | UndefinedMetricError:
    """Add the threshold from the auxiliary dataset stored in scores.h5, or the reason why there is none."""
    if isinstance(ranking, UndefinedMetricError):
        return ranking
    decision = attributes.get(f"threshold_{level}")
    reason = attributes.get("no_threshold", ranking.no_decision)
    return replace(ranking, decision=None if decision is None else float(decision), no_decision=str(reason))


def _write(row: _Row, store: Store | None, keys: dict[Evaluation, str]) -> None:
    """Write the files of a finished row, and add them to the store if there is one."""
    outputs, key = row.todo.outputs, keys.get(row.todo)
    if store is None or key is None:
        _write_tables(row, row.todo.metrics, row.todo.curves)
    else:
        files = {name: store.partial(key) / name for name in outputs}
        _write_tables(row, *files.values())
        store.finish(key, files, outputs)


def _write_tables(row: _Row, metrics: Path, curves: Path) -> None:
    frame = row.results.metrics()
    for column in ("method", "backbone", "auxiliary", "dataset", "seed"):
        frame[column] = row.attributes[column]
    points = row.results.curves()
    for axis in ("x", "y"):
        points[axis] = [f"{value:.9g}" for value in points[axis].tolist()]  # ten times as fast as pandas
    with whole(metrics) as temporary, whole(curves) as temporary_curves:
        with_digest(frame).to_csv(temporary, index=False)
        points.to_csv(temporary_curves, index=False)
