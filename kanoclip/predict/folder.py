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
from kanoclip.files import write_json
from kanoclip.predict.detector import Detector
from kanoclip.predict.drawing import Pictures, Scale, scale_of
from kanoclip.predict.find import MARK, Found, ImageFiles
from kanoclip.predict.inputs import square
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

    Raises:
        InputError: the folder holds the prediction of another model, threshold or choice of pictures.
        OSError: the disk is full, or the folder cannot be written; finished images are kept.
    """
    scale = _agreed_scale(job)
    with Records(job.folder, lambda record: _fresh(job.files, record)) as records, _pool(job.workers) as pool:
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


def _agreed_scale(job: Job) -> Scale | None:
    """Return the colour scale of an earlier run, or None; refuse a folder with the prediction of another model."""
    path, settings = job.folder / MARK, job.settings()
    if not path.is_file():
        write_json(path, {**settings, "scale": None})
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not a whole file; delete {job.folder} or give another --out") from error
    for key, value in settings.items():
        if found.get(key) != value:
            what = "model" if key == "checksum" else key
            raise InputError(
                f"{job.folder}: holds a prediction with another {what} ({found.get(key)}); "
                "give another --out, or delete the folder"
            )
    return tuple(found["scale"]) if found["scale"] else None


def _fresh(files: ImageFiles, record: Record) -> bool:
    """Return whether the file of a line is unchanged."""
    return bool(record["state"]) and state_of(files.base / record["file"]) == record["state"]


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
                yield record_of(result, result.name, one.file.name, one.state)
