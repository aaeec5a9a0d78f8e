"""Names of the files and folders of a prediction."""

import hashlib
import os
import re
from pathlib import Path

MARK = "prediction.json"  # marks the folder of a prediction
JSONL, CSV, SKIPPED, CARD = "predictions.jsonl", "predictions.csv", "skipped.txt", "card.json"
PAGE, COCO, PACKED_MAPS = "index.html", "regions.coco.json", "maps.h5"
FILES = {MARK, JSONL, CSV, SKIPPED, CARD, PAGE, COCO, PACKED_MAPS}
HEAT, MASKS, MAPS, PIECES, THUMBNAILS = "heat", "masks", "maps", "maps.partial", "thumbnails"
FOLDERS = {HEAT, MASKS, MAPS, PIECES, THUMBNAILS}
LONGEST = 200  # bytes per file name
LIKE_A_PICTURE = re.compile(r"(\.(?:png|webp|npy)_*)(?=/)", re.IGNORECASE)  # the end of a folder's name


def picture(kind: str, name: str) -> str:
    """Return the path of a picture below the folder of the prediction.

    >>> picture("heat", "a/b.jpg")
    'heat/a/b.jpg.png'
    """
    return f"{kind}/{short(name)}.png"


def piece(name: str) -> str:
    """Return the path of an image's map before it is packed."""
    return f"{PIECES}/{short(name)}.npy"


def thumbnail(name: str, of: str) -> str:
    """Return the path of a thumbnail, of "image" or "heat"."""
    return f"{THUMBNAILS}/{short(name)}.{of}.webp"


def delete_pictures(folder: Path, name: str) -> None:
    """Delete all pictures of an image, as far as there are any."""
    if ".." in name.split("/"):  # no image has such a name; a damaged line must not lead out of the folder
        return
    drawn = [picture(kind, name) for kind in (HEAT, MASKS, MAPS)]
    for path in (*drawn, piece(name), thumbnail(name, "image"), thumbnail(name, "heat")):
        (folder / path).unlink(missing_ok=True)


def short(name: str) -> str:
    """Change a name so that its pictures can be stored: no part is too long, no folder is called like a picture.

    File systems allow 255 bytes; the last part leaves room for suffixes. A folder that ends like a picture gets a "_".

    >>> short("a/b.jpg"), short("a.png.png/b.jpg"), len(short("a/" + 300 * "b"))
    ('a/b.jpg', 'a.png.png_/b.jpg', 202)
    """
    folder, slash, last = LIKE_A_PICTURE.sub(r"\1_", name).rpartition("/")
    content = os.fsencode(last)
    if len(content) <= LONGEST:
        return folder + slash + last
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"{folder}{slash}{os.fsdecode(content[: LONGEST - 17]).encode('ascii', 'replace').decode()}-{digest}"
