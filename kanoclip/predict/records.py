"""Read and write predictions.jsonl and predictions.csv: one line per image, appended as images finish."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kanoclip.files import whole
from kanoclip.predict.outputs import CSV, JSONL
from kanoclip.predict.regions import Region
from kanoclip.predict.result import Result
from kanoclip.predict.rle import compressed, runs

CSV_COLUMNS = [
    "image",
    "score",
    "threshold",
    "decision",
    "regions",
    "largest_region",
    "peak_x",
    "peak_y",
    "peak",
    "error",
]
DECISIONS = {None: "", True: "anomalous", False: "normal"}

Record = dict[str, Any]
"""A line of predictions.jsonl: image, file, state and either error, or pages, score, threshold, decision, width, height
and regions (x, y, width, height, area, peak, value, rle: COCO's compressed run-length encoding)."""


def record_of(result: Result, name: str, file: str, state: list[int], pages: int = 1) -> Record:
    """Return the record of an image.

    Args:
        result: the result of the image.
        name: name of the image: the file name and, for one of several pages, its suffix.
        file: name of the file.
        state: its size and modification time, from `state_of`.
        pages: the number of images in the file.
    """
    return {
        "image": name,
        "file": file,
        "state": state,
        "pages": pages,
        "score": result.score,
        "threshold": result.threshold.image,
        "decision": DECISIONS[result.is_anomalous],
        "width": result.image.width,
        "height": result.image.height,
        "map_threshold": result.threshold.pixel,
        "regions": [_region(one, result.image.size) for one in result.regions],
    }


def _region(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    values = {one.name: getattr(region, one.name) for one in fields(region) if one.name != "mask"}
    return {**values, "rle": compressed(runs(region.mask, (region.x, region.y), size))}


def state_of(path: Path) -> list[int]:
    """Return the size and the modification time in nanoseconds of a file; an empty list if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


class Records:
    """The two files, open for appending; a context manager.

    Args:
        folder: their folder.
        fresh: returns whether the line of an earlier run is still valid; lines with errors, and those of a file of
            which a line is missing, never are.
        forget: called with each line that is dropped.
    """

    def __init__(
        self, folder: Path, fresh: Callable[[Record], bool], forget: Callable[[Record], None] = lambda record: None
    ):
        self.done: set[int] = set()  # hashes of file names: a million take 60 MB
        with (
            whole(folder / JSONL) as lines,
            whole(folder / CSV) as table,
            lines.open("w", encoding="ascii") as kept,
            _open_csv(table, "w") as rows,
        ):
            rows.write(_csv_line(CSV_COLUMNS))
            # the lines of a file are next to each other; one in the middle may be missing after a full disk
            for file, group in groupby(read_records(folder), lambda record: record["file"]):
                found = list(group)
                if len(found) != found[0].get("pages") or not all(map(fresh, found)):
                    for record in found:
                        forget(record)
                    continue
                self.done.add(hash(file))
                kept.writelines(map(_json_line, found))
                rows.writelines(_csv_line(_csv_row(record)) for record in found)
        self._lines = (folder / JSONL).open("a", encoding="ascii")
        self._rows = _open_csv(folder / CSV, "a")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in (self._lines, self._rows):
            # close tries to write the rest again; report the first error
            with nullcontext() if error is None else suppress(OSError):
                file.close()

    def __contains__(self, file: str) -> bool:
        return hash(file) in self.done

    def add(self, records: list[Record]) -> None:
        """Write the lines of all images of one or more files."""
        rows = "".join(_csv_line(_csv_row(record)) for record in records)
        for file, text in ((self._rows, rows), (self._lines, "".join(map(_json_line, records)))):
            try:
                file.write(text)
                file.flush()
            except OSError as error:
                error.filename = file.name
                raise


def read_records(folder: Path) -> Iterator[Record]:
    """Yield the complete lines of predictions.jsonl; an interrupted run may leave a partial one."""
    path = folder / JSONL
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if line.endswith("\n"):
                yield record


def _json_line(record: Record) -> str:
    return json.dumps(record) + "\n"


def _open_csv(path: Path, mode: str) -> Any:
    # file names need not be valid text
    return path.open(mode, encoding="utf-8", errors="backslashreplace", newline="")


def _csv_row(record: Record) -> list[Any]:
    if "error" in record:
        return [record["image"], *[""] * (len(CSV_COLUMNS) - 2), record["error"]]
    first = record["regions"][0] if record["regions"] else None
    largest = max((region["area"] for region in record["regions"]), default="")
    peak = [*first["peak"], first["value"]] if first else ["", "", ""]
    threshold = "" if record["threshold"] is None else record["threshold"]
    return [record["image"], record["score"], threshold, record["decision"], len(record["regions"]), largest, *peak, ""]


def _csv_line(values: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(values)  # it quotes only what is in its line end, "\r\n", which is shortened here
    return text.getvalue().removesuffix("\r\n") + "\n"
