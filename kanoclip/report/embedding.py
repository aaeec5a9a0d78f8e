"""Embed figures in the page: PNGs become WebP, and empty figures become their reason."""

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from PIL import Image

from kanoclip.report.registry import Figure, of_file
from kanoclip.report.style import NOTHING, PICTURES
from kanoclip.types import InputError

QUALITY = 50  # of WebP with photographs, 0 to 100; drawings are kept exactly
LARGEST = 16383  # pixels per side that WebP can hold
PHOTOGRAPHS, DRAWING = 5_000_000, 4_000_000  # most pixels of a figure on the page; larger ones are shrunk there
COLOURS = 32  # in the palette of a shrunk drawing


@dataclass(frozen=True)
class Embedded:
    """A figure inside the page.

    Attributes:
        of: the target that it shows; "" for a figure of the run.
        title: title of this figure.
        data: the WebP in base64.
        width: in pixels.
        height: in pixels.
        pictures: left, top, width and height of its photographs in percent, whose colours the dark theme keeps.
    """

    of: str
    title: str
    data: str
    width: int
    height: int
    pictures: list[list[float]]


@dataclass(frozen=True)
class Group:
    """The figures of one declaration: one for the run, or one per target.

    Attributes:
        name: name of the declaration, used as the anchor.
        title: title of the group.
        caption: plain text.
        category: "Results" or "Diagnostics".
        figures: in order.
        left_out: "target: reason" of the empty ones.
    """

    name: str
    title: str
    caption: str
    category: str
    figures: list[Embedded]
    left_out: list[str]


def groups_of(paths: Sequence[Path]) -> list[Group]:
    """Group figures by declaration.

    Args:
        paths: PNGs of `kanoclip figure`, in the order of the page.

    Raises:
        InputError: a file is missing, or its name is not that of a figure.
    """
    known = [(*_declared(path), path) for path in paths]
    groups = []
    for declared, members in groupby(known, key=lambda one: one[0]):
        figures, left_out = [], []
        for _, of, path in members:
            with Image.open(path, formats=("PNG",)) as image:
                reason = image.info.get(NOTHING)
                if reason is None:
                    figures.append(_embedded(image, declared, of))
                else:
                    left_out.append(f"{of}: {reason}" if of else str(reason))
        groups.append(Group(declared.name, declared.title, declared.caption, declared.category, figures, left_out))
    return groups


def _declared(path: Path) -> tuple[Figure, str | None]:
    if not path.is_file():
        raise InputError(f"{path}: no such figure; draw it with `kanoclip figure`")
    return of_file(path)


def _embedded(image: Image.Image, declared: Figure, of: str | None) -> Embedded:
    pictures = json.loads(image.info.get(PICTURES, "[]"))
    shown, shrunk = _shrunk(image.convert("RGB"), PHOTOGRAPHS if pictures else DRAWING)
    if shrunk and not pictures:
        shown = shown.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).convert("RGB")
    buffer = io.BytesIO()
    shown.save(buffer, format="webp", lossless=not pictures, quality=QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    percent = [[round(100 * value, 3) for value in place] for place in pictures]
    return Embedded(of or "", declared.title_of(of), data, *shown.size, percent)


def _shrunk(image: Image.Image, pixels: int) -> tuple[Image.Image, bool]:
    """Return an image shrunk to a number of pixels and the largest side of WebP, and whether it was larger."""
    width, height = image.size
    scale = min(1.0, math.sqrt(pixels / (width * height)), LARGEST / width, LARGEST / height)
    if scale == 1:
        return image, False
    return image.resize((max(1, int(scale * width)), max(1, int(scale * height))), Image.Resampling.LANCZOS), True
