"""Predict many image files: read in threads, scored in batches, written as they finish, resumed after a stop."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kanoclip.datasets.decoding import Frame, read_image
from kanoclip.datasets.safe_open import shown
from kanoclip.files import write_json
from kanoclip.predict.detector import Detector
from kanoclip.predict.drawing import Pictures, Scale, scale_of
from kanoclip.predict.find import Found, ImageFiles
from kanoclip.predict.inputs import square
from kanoclip.predict.outputs import FOLDERS, MARK, delete_pictures
from kanoclip.predict.records import Record, Records, record_of, state_of
from kanoclip.predict.result import Result
from kanoclip.types import InputError, Progress, logger

MOST_PIXELS = 64_000_000  # per batch: large images come in smaller batches


@dataclass(frozen=True)
class Job:
    """A prediction job: its images, detector and output.

    Attributes:
        detector: with its threshold.
        files: the images.
        folder: for all output.
        pictures: which to write.
        batch_size: images per forward pass.
        workers: threads that read images and write pictures.
    """

    detector: Detector
    files: ImageFiles
    folder: Path
    pictures: Pictures
    batch_size: int = 16
    workers: int = 1

    def settings(self) -> dict[str, object]:
        """Return the settings that must not change when a run is resumed."""
        threshold = self.detector.threshold
        return {
            "model": self.detector.description,
            "checksum": self.detector.checksum(),
            "threshold": [threshold.image, threshold.pixel],
            "maps": self.pictures.maps,
            "pictures": self.pictures.shown,
        }


@dataclass(frozen=True)
class _Loaded:
    """The content of a file, or the reason why it could not be read."""

    file: Found
    state: list[int]
    frames: list[Frame] = field(default_factory=list)
    squares: list[NDArray[np.uint8]] = field(default_factory=list)
    error: str = ""

    @property
    def pixels(self) -> int:
        return sum(frame.image.width * frame.image.height for frame in self.frames)


def predict_files(job: Job) -> None:
    """Predict every image that an earlier run has not predicted, and write lines and pictures.

    Lines and pictures of earlier runs remain only for the files of this job that have not changed.

    Raises:
        InputError: as `check_settings`.
        OSError: the disk is full, or the folder cannot be written; finished images are kept.
    """
    scale = check_settings(job)
    if not (job.folder / MARK).is_file():
        write_json(job.folder / MARK, {**job.settings(), "scale": None})
    with _kept_records(job) as records, _pool(job.workers) as pool:
        todo = (file for file in job.files if file.name not in records)
        done = sum(file.name in records for file in job.files)
        if done:
            logger.info("%d of %d images were predicted before", done, len(job.files))
        with Progress("predict", len(job.files), "images", done) as bar:
            for batch in _batches(_loaded(pool, todo, job.detector.size, job.batch_size), job.batch_size):
                results = _scored(job, batch)
                if scale is None and results:
                    scale = scale_of([result for _, result in results])
                    write_json(job.folder / MARK, {**job.settings(), "scale": list(scale)})
                for drawn in [pool.submit(job.pictures.write, one, one.name, scale) for _, one in results if scale]:
                    drawn.result()
                records.add(list(_records(batch, results)))
                bar.update(len(batch))


def check_settings(job: Job) -> Scale | None:
    """Compare a job with the prediction in its folder, without writing anything.

    Returns:
        The colour scale of that prediction; None if it has none yet, or there is no prediction.

    Raises:
        InputError: the folder holds the prediction of another model, threshold or choice of pictures, or files of the
            user where pictures are written.
    """
    path, settings = job.folder / MARK, job.settings()
    if not path.is_file():
        for kind in sorted(FOLDERS):
            if (job.folder / kind).is_dir() and any((job.folder / kind).iterdir()):
                raise InputError(
                    f"{job.folder / kind}: expected no folder of this name, since it is for pictures, found files that "
                    "no prediction has written; give another --out"
                )
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not a whole file; give another --out, or delete the prediction there") from error
    for key, value in settings.items():
        if found.get(key) != value:
            what = "model" if key == "checksum" else key
            raise InputError(
                f"{job.folder}: holds a prediction with another {what} ({found.get(key)}); "
                "give another --out, or delete that prediction"
            )
    return tuple(found["scale"]) if found["scale"] else None


def _kept_records(job: Job) -> Records:
    """Open the lines of earlier runs; those of other or changed files are dropped with their pictures."""
    names = {hash(file.name) for file in job.files}  # a million take 60 MB

    def fresh(record: Record) -> bool:
        state = state_of(job.files.base / record["file"])
        return hash(record["file"]) in names and bool(state) and state == record["state"]

    return Records(job.folder, fresh, lambda record: delete_pictures(job.folder, record["image"]))


def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="predict")


def _loaded(pool: ThreadPoolExecutor, files: Iterable[Found], size: int, ahead: int) -> Iterator[_Loaded]:
    """Read files ahead of the model, in order."""
    pending: deque[Future[_Loaded]] = deque()
    try:
        for file in files:
            pending.append(pool.submit(_load, file, size))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for one in pending:
            one.cancel()


def _load(file: Found, size: int) -> _Loaded:
    state = state_of(file.path)
    try:
        if file.path.is_symlink() and not file.path.exists():
            raise InputError(f"{shown(file.path)}: expected an image, found a link to nothing; correct or remove it")
        frames = read_image(file.path)
    except InputError as error:
        logger.warning("%s", error)
        return _Loaded(file, state, error=str(error))
    return _Loaded(file, state, frames, [square(frame.image, size) for frame in frames])


def _batches(loaded: Iterable[_Loaded], size: int) -> Iterator[list[_Loaded]]:
    """Group whole files until a group has `size` images or MOST_PIXELS."""
    batch: list[_Loaded] = []
    for one in loaded:
        batch.append(one)
        if sum(len(each.frames) or 1 for each in batch) >= size or sum(each.pixels for each in batch) >= MOST_PIXELS:
            yield batch
            batch = []
    if batch:
        yield batch


def _scored(job: Job, batch: list[_Loaded]) -> list[tuple[_Loaded, Result]]:
    """Return the results of the images of a batch."""
    pictures = [(one, frame, sides) for one in batch for frame, sides in zip(one.frames, one.squares, strict=True)]
    results = []
    for start in range(0, len(pictures), job.batch_size):
        part = pictures[start : start + job.batch_size]
        found = job.detector.score([frame.image for _, frame, _ in part], [sides for _, _, sides in part])
        for (one, frame, _), scored in zip(part, found, strict=True):
            name = one.file.name + frame.name_suffix
            results.append((one, job.detector.result(name, frame.image, scored)))
    return results


def _records(batch: list[_Loaded], results: list[tuple[_Loaded, Result]]) -> Iterator[Record]:
    """Yield the lines of a batch in the order of its files."""
    for one in batch:
        if one.error:
            yield {"image": one.file.name, "file": one.file.name, "state": one.state, "error": one.error}
        for owner, result in results:
            if owner is one:
                yield record_of(result, result.name, one.file.name, one.state, len(one.frames))
