"""Write index.html: the most anomalous images first, with heat maps and a filter by decision. It works offline."""

import heapq
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from kanoclip.files import write_text
from kanoclip.predict.detector import Detector
from kanoclip.predict.drawing import HDF5, PNG_MAPS
from kanoclip.predict.outputs import CSV, HEAT, JSONL, MAPS, MASKS, PACKED_MAPS, PAGE, picture, thumbnail
from kanoclip.predict.records import Record, read_records

MOST = 5000  # images on the page; predictions.csv has all


def worst(folder: Path, count: int) -> list[Record]:
    """Return the most anomalous images of a prediction, most anomalous first, keeping only these in memory."""
    scored = (record for record in read_records(folder) if "error" not in record)
    return heapq.nlargest(count, scored, key=lambda record: record["score"])


def failed(folder: Path) -> list[Record]:
    """Return the lines of images that could not be read."""
    return [record for record in read_records(folder) if "error" in record]


def write_gallery(folder: Path, detector: Detector, pictures: bool, maps: str) -> None:
    """Write the page.

    Args:
        folder: folder of the prediction.
        detector: the one used.
        pictures: whether heat maps and thumbnails exist.
        maps: format of raw maps, as in `Pictures`.
    """
    masks = detector.threshold.pixel is not None
    tiles = [_tile(record, pictures, masks, maps == PNG_MAPS) for record in worst(folder, MOST)]
    counts = {"images": 0, "anomalous": 0, "normal": 0}
    for record in read_records(folder):
        if "error" not in record:
            counts["images"] += 1
            counts["anomalous"] += record["decision"] == "anomalous"
            counts["normal"] += record["decision"] == "normal"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("gallery.html.j2").render(
        description=detector.description,
        threshold=detector.threshold,
        counts=counts,
        shown=len(tiles),
        failed=failed(folder),
        files=[CSV, JSONL, *([PACKED_MAPS] if maps == HDF5 else [])],
        data=_for_script(tiles),
    )
    write_text(folder / PAGE, text.encode("utf-8", "backslashreplace").decode("utf-8"))


def _tile(record: Record, pictures: bool, masks: bool, maps: bool) -> dict[str, Any]:
    name = record["image"]
    kinds = {"heat": (HEAT, pictures), "mask": (MASKS, pictures and masks), "map": (MAPS, maps)}
    return {
        "name": name,
        "score": round(record["score"], 4),
        "decision": record["decision"],
        "regions": len(record["regions"]),
        "size": [record["width"], record["height"]],
        "image": _url(thumbnail(name, "image")) if pictures else "",
        "heat": _url(thumbnail(name, "heat")) if pictures else "",
        "files": {label: _url(picture(kind, name)) for label, (kind, there) in kinds.items() if there},
    }


def _url(path: str) -> str:
    """Return the URL of a file beside the page; names may contain any byte."""
    return quote(os.fsencode(path))


def _for_script(value: Any) -> str:
    """Return JSON that cannot close the script element around it."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
