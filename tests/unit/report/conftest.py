import base64
import io
import re
from xml.etree import ElementTree

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kanoclip.datasets.index import read_index, write_index


@pytest.fixture
def scored(tmp_path):
    """Return a function that makes a dataset and scores; it returns the index and one scores.h5 per method."""

    def make(dataset, methods=("kanoclip", "clip"), masks=True, normal=3, anomalous=5, unlabelled=0):
        generator = np.random.default_rng(len(dataset))
        folder = tmp_path / dataset
        folder.mkdir()
        rows = []
        for i in range(normal + anomalous + unlabelled):
            label = -1 if i >= normal + anomalous else int(i >= normal)
            Image.fromarray(generator.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(folder / f"{i}.png")
            if label == 1 and masks:
                Image.fromarray(np.pad(np.full((10, 10), 255, np.uint8), ((5, 15), (10, 20)))).save(
                    folder / f"{i}m.png"
                )
            mask = f"{i}m.png" if label == 1 and masks else ""
            rows.append((f"{i}.png", mask, "metal nut", label, ("good", "bent", "unlabelled")[label], "test"))
        columns = ["image", "mask", "class_name", "label", "defect", "split"]
        write_index(pd.DataFrame(rows, columns=columns), folder / "index.csv")
        n = len(read_index(folder / "index.csv"))
        for k, method in enumerate(methods):
            with h5py.File(folder / f"{method}.h5", "w") as file:
                file.create_dataset("image", data=[row[0] for row in rows], dtype=h5py.string_dtype())
                file["map"] = generator.random((n, 4, 4), dtype=np.float32)
                file["image_score"] = np.linspace(0.1, 0.8, n, dtype=np.float32) + np.float32(k / 100)
                file.attrs.update(method=method, dataset=dataset, sigma=4.0)
        return folder / "index.csv", [folder / f"{method}.h5" for method in methods]

    return make


@pytest.fixture
def panels():
    """Return a function that counts the panels of a figure; its SVG has one group per panel."""
    return lambda png: len(re.findall(r'id="axes_\d+"', png.with_suffix(".svg").read_text()))


@pytest.fixture
def shape():
    """Return a function that gives columns and rows of images per band of a grid; a band is one picture in the SVG."""

    def count(png):
        root = ElementTree.parse(png.with_suffix(".svg")).getroot()
        found = []
        for image in root.iter("{http://www.w3.org/2000/svg}image"):
            data = image.get("{http://www.w3.org/1999/xlink}href").partition(",")[2]
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
            gaps = [np.diff((pixels == 255).all(axis).all(-1).astype(int)) for axis in (0, 1)]
            found.append(tuple(int((gap == 1).sum()) for gap in gaps))
        return [shape for shape in found if min(shape) > 0]  # the colour bar has no gaps

    return count


@pytest.fixture
def texts():
    """Return a function that lists the texts of a figure; its SVG has each in a comment."""
    return lambda png: re.findall(r"<!-- (.*?) -->", png.with_suffix(".svg").read_text())


@pytest.fixture
def draw_twice(tmp_path):
    """Return a function that draws a figure twice and checks that every format is byte-identical."""

    def draw(function):
        first, second = tmp_path / "first" / "figure.png", tmp_path / "second" / "figure.png"
        function(first)
        function(second)
        for suffix in (".png", ".pdf", ".svg"):
            assert first.with_suffix(suffix).read_bytes() == second.with_suffix(suffix).read_bytes()
        assert len(list(first.parent.iterdir())) == 3
        with Image.open(first) as image:
            image.load()
            assert min(image.size) > 200
        return first

    return draw
