"""Regions as COCO annotations, streamed from predictions.jsonl."""

import json
from pathlib import Path

from kanoclip.files import whole
from kanoclip.predict.outputs import COCO
from kanoclip.predict.records import read_records

CATEGORY = 1


def write_coco(folder: Path) -> None:
    """Write the regions of all images.

    bbox is [x, y, width, height] and area is in pixels; score is the peak of the map; segmentation is COCO's compressed
    run-length encoding, which is exact to the pixel, unlike a polygon.
    """
    with whole(folder / COCO) as temporary, temporary.open("w", encoding="ascii") as file:
        category = {"id": CATEGORY, "name": "anomaly", "supercategory": ""}
        file.write(f'{{"info": {{}}, "licenses": [], "categories": [{json.dumps(category)}],\n"images": [')
        scored = (record for record in read_records(folder) if "error" not in record)
        for number, record in enumerate(scored, start=1):
            image = {"id": number, "file_name": record["image"], "width": record["width"], "height": record["height"]}
            file.write(("," if number > 1 else "") + "\n" + json.dumps(image))
        file.write('],\n"annotations": [')
        count = 0
        scored = (record for record in read_records(folder) if "error" not in record)
        for number, record in enumerate(scored, start=1):
            for region in record["regions"]:
                count += 1
                entry = {
                    "id": count,
                    "image_id": number,
                    "category_id": CATEGORY,
                    "bbox": [region["x"], region["y"], region["width"], region["height"]],
                    "area": region["area"],
                    "score": region["value"],
                    "iscrowd": 0,
                    "segmentation": {"size": [record["height"], record["width"]], "counts": region["rle"]},
                }
                file.write(("," if count > 1 else "") + "\n" + json.dumps(entry))
        file.write("]}\n")
