"""Measure the size of the page of a complete benchmark, and the time to write and open it.

The benchmark has the paper's 12 datasets with all their classes, and 15 methods. At most `shown_rows` of the methods
are in the figures and the gallery.

python benchmarks/page.py FOLDER [--methods 15] [--images 100]

Images are drawn, with sensor noise; scores and maps are random and independent between methods, so that the gallery
shows more different images than with methods that agree. What an earlier call drew in FOLDER is not drawn again.
Opening is timed in Chromium with a fresh profile, from the start of the navigation to the end of the load event, when
the gallery is complete; the median of three times is printed.
"""

import argparse
import re
import shutil
import statistics
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from kanoclip.config import Configuration
from kanoclip.datasets.index import GOOD, INDEX_COLUMNS, write_index
from kanoclip.datasets.specs import load_spec
from kanoclip.datasets.synthetic import defects_of, render
from kanoclip.metrics.curves import CURVES_COLUMNS
from kanoclip.report import formats
from kanoclip.report.page import write_page
from kanoclip.report.registry import figures, named

INDUSTRIAL = ("mvtec_ad", "visa", "mpdd", "btad", "sdd", "dagm")
TARGETS = (*INDUSTRIAL, "brainmri", "liverct", "resc", "br35h", "covid19", "headct")
KINDS = load_spec("synthetic_auxiliary").classes
DRAWN, SIDE, GRID = 120, 256, 37  # different images, their pixels per side, cells per side of a map
SHOWN_ROWS = Configuration.model_fields["shown_rows"].default
NOISE = 3.0  # standard deviation of the sensor noise, for values up to 255
OPENED = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
TILES = "return document.querySelectorAll('#tiles li').length"


def main() -> None:
    """Print sizes and times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", type=int, default=15)
    parser.add_argument("--images", type=int, default=100, help="images per class, half of them anomalous")
    args = parser.parse_args()
    methods = [f"method_{number:02}" for number in range(args.methods)]
    generator = np.random.default_rng(0)
    draw_images(args.folder / "images", generator)
    shown, hidden = methods[:SHOWN_ROWS], methods[SHOWN_ROWS:]
    runs = {name: write_target(args.folder / name, name, shown, args.images, generator) for name in TARGETS}
    begin = time.perf_counter()
    drawn = draw_figures(args.folder / "figures", runs, shown)
    print(f"figures        {time.perf_counter() - begin:8.1f} s   {megabytes(drawn):8.1f} MB as PNG")
    page = args.folder / "index.html"
    pairs = [(folder / "index.csv", folder / f"{method}.h5") for folder in runs.values() for method in shown]
    begin = time.perf_counter()
    write_page(write_table(args.folder, methods), drawn, page, "a whole benchmark", pairs, hidden=hidden)
    print(f"page           {time.perf_counter() - begin:8.1f} s   {megabytes([page]):8.1f} MB")
    text = page.read_text(encoding="utf-8")
    gallery = text[text.index('id="gallery-data"') :]
    print(f"  gallery                   {len(gallery) / 1e6:8.1f} MB")
    print(f"  figures                   {sum(map(len, re.findall('src=.data:.*?>', text))) / 1e6:8.1f} MB")
    times, tiles = zip(*(opened(page) for _ in range(3)), strict=True)
    print(f"opening        {statistics.median(times):8.2f} s   {tiles[0]:8} tiles shown")


def megabytes(paths: list[Path]) -> float:
    """Return the total size of some files in MB."""
    return sum(path.stat().st_size for path in paths) / 1e6


def draw_images(folder: Path, generator: np.random.Generator) -> None:
    """Draw images and masks; even numbers are normal, odd numbers anomalous."""
    if len(list(folder.glob("*.png"))) == 2 * DRAWN:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(DRAWN):
        kind = KINDS[number // 2 % len(KINDS)]
        defects = defects_of(kind)
        sample = render(kind, defects[number % len(defects)] if number % 2 else None, number, SIDE)
        noisy = sample.image + generator.normal(0, NOISE, sample.image.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        Image.fromarray(sample.mask).save(folder / f"{number}_mask.png")


def write_target(folder: Path, name: str, methods: list[str], count: int, generator: np.random.Generator) -> Path:
    """Write index, scores and curves of a dataset with the classes of its spec, and return their folder."""
    spec, rows = load_spec(name), []
    folder.mkdir(parents=True, exist_ok=True)
    for class_name in spec.classes:
        order = generator.permutation(DRAWN // 2)
        for number in range(count):
            place = 2 * int(order[number // 2]) + number % 2
            mask = f"../images/{place}_mask.png" if number % 2 and spec.masks else ""
            defect = "bent" if number % 2 else GOOD
            rows.append((f"../images/{place}.png", mask, spec.class_name(class_name), number % 2, defect, "test"))
    write_index(pd.DataFrame(rows, columns=INDEX_COLUMNS), folder / "index.csv")
    index = pd.read_csv(folder / "index.csv", keep_default_na=False)
    for method in methods:
        with h5py.File(folder / f"{method}.h5", "w") as file:
            file.create_dataset("image", data=index["image"].tolist(), dtype=h5py.string_dtype())
            file["image_score"] = (index["label"] + generator.normal(0, 1, len(index))).to_numpy(np.float32)
            file["map"] = blobs(len(index), generator)
            file.attrs.update(method=method, dataset=name, sigma=8.0)
        write_curves(folder / f"{method}.csv", spec.masks is not False, generator)
    return folder


def blobs(count: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return maps (count, GRID, GRID) in 0..1, each the maximum of four round spots of random position and size."""
    axis = np.arange(GRID)
    maps = np.zeros((count, GRID, GRID), np.float32)
    for _ in range(4):
        y, x = (generator.uniform(0, GRID, (count, 1)) for _ in range(2))
        width = generator.uniform(1, 6, (count, 1))
        rows, columns = (np.exp(-(((axis - centre) / width) ** 2)) for centre in (y, x))
        height = generator.random((count, 1, 1))
        maps = np.maximum(maps, (height * rows[:, :, None] * columns[:, None, :]).astype(np.float32))
    return maps


def write_curves(path: Path, masks: bool, generator: np.random.Generator) -> None:
    """Write rising curves of one class."""
    parts = []
    for level, curve in [("image", "roc"), *([("pixel", "roc"), ("pixel", "pro")] if masks else [])]:
        x, y = (np.sort(generator.random(300)) for _ in range(2))
        parts.append(pd.DataFrame({"class_name": "all", "level": level, "curve": curve, "x": x, "y": np.sqrt(y)}))
    pd.concat(parts)[CURVES_COLUMNS].to_csv(path, index=False)


def draw_figures(folder: Path, runs: dict[str, Path], methods: list[str]) -> list[Path]:
    """Draw the figures of every target, and return their PNGs in the order of the page."""
    paths = []
    for figure in (figure for figure in figures().values() if figure.per == "target"):
        for name, place in runs.items():
            scores = [place / f"{method}.h5" for method in [methods[-1], *methods[:-1]]]
            curves = {method: [place / f"{method}.csv"] for method in methods}
            paths.append(folder / f"{figure.file_name(name)}.png")
            if not paths[-1].is_file():
                named(figure.name).draw({"index": place / "index.csv", "scores": scores, "curves": curves}, paths[-1])
    return paths


def write_table(folder: Path, methods: list[str]) -> Path:
    """Write a main table of random numbers."""
    columns = pd.MultiIndex.from_product([[load_spec(name).title for name in TARGETS], ["image AUROC", "pixel AUROC"]])
    table = pd.DataFrame("50.0 ± 1.0", index=pd.Index(methods, name="method"), columns=columns)
    path = folder / "main.html"
    path.write_text(formats.to_document(formats.to_html(table, ["Made up."]), "Main table"), encoding="utf-8")
    return path


def opened(page: Path) -> tuple[float, int]:
    """Open the page in a fresh browser; return the seconds and the number of tiles in its gallery."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    with Chrome(options=options, service=ChromeService(shutil.which("chromedriver"))) as browser:
        browser.get(page.resolve().as_uri())
        time.sleep(0.2)
        return browser.execute_script(OPENED) / 1000, browser.execute_script(TILES)


if __name__ == "__main__":
    main()
