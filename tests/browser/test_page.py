"""Test the page in a real browser, opened from disk: keyboard, selections, sorting, narrow screens, no network.

Needs Debian's chromium and chromedriver (CONTRIBUTING); without them these tests fail.
"""

import io
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

from kanoclip.datasets.index import INDEX_COLUMNS, write_index
from kanoclip.metrics.registry import METRICS_COLUMNS
from kanoclip.report import formats
from kanoclip.report.figures.samples import qualitative
from kanoclip.report.page import write_page

pytestmark = pytest.mark.slow

METHODS = {
    "alpha": ["60.0", "80.0 ± 1.0", "50.0", "-"],
    "beta": ["<b>100.0 ± 2.5</b>", "<b>90.0</b>", "50.0", "-"],
    "gamma": ["<u>65.0</u>", "-", "50.0", "-"],
}
CLASSES = {"parts": ["nut", "<b>bolt</b>"], "cloth": ["weave"]}  # cloth has no masks
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
DESKTOP = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
SPILLING = """
return [...document.body.querySelectorAll("*")]
  .filter((node) => !node.parentElement.closest(".scroll") && node.getBoundingClientRect().right > innerWidth + 0.5)
  .map((node) => node.outerHTML.slice(0, 80))
"""
CONTRASTS = """
const luminance = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const paper = luminance(getComputedStyle(document.body).backgroundColor);
return ["body", "nav a", ".notes", ".mistake .verdict", ".file", "summary", "select"].map((selector) => {
  const ink = luminance(getComputedStyle(document.querySelector(selector)).color);
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
});
"""


def write_dataset(folder: Path, name: str, with_masks: bool, generator: np.random.Generator) -> list[tuple[Path, Path]]:
    """Write images of noise, four normal and four anomalous per class, with random scores and maps of every method."""
    rows = []
    (folder / name).mkdir()
    for class_name in CLASSES[name]:
        for i in range(8):
            label, stem = int(i >= 4), f"{len(rows)}"
            Image.fromarray(generator.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(folder / name / f"{stem}.png")
            masked = bool(label) and with_masks
            if masked:
                Image.fromarray(np.eye(20, dtype=np.uint8) * 255).save(folder / name / f"{stem}_mask.png")
            mask = f"{stem}_mask.png" if masked else ""
            rows.append((f"{stem}.png", mask, class_name, label, "bent" if label else "good", "test"))
    index = folder / name / "index.csv"
    write_index(pd.DataFrame(rows, columns=INDEX_COLUMNS), index)
    images = pd.read_csv(index)["image"].tolist()
    pairs = []
    for method in METHODS:
        with h5py.File(folder / name / f"{method}.h5", "w") as file:
            file.create_dataset("image", data=images, dtype=h5py.string_dtype())
            file["image_score"] = generator.random(len(rows), dtype=np.float32)
            file["map"] = generator.random((len(rows), 4, 4), dtype=np.float32)
            file.attrs.update(method=method, dataset=name, sigma=4.0)
        pairs.append((index, folder / name / f"{method}.h5"))
    return pairs


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of a page with three methods and two datasets."""
    folder = tmp_path_factory.mktemp("run")
    generator = np.random.default_rng(0)
    pairs = [pair for name in CLASSES for pair in write_dataset(folder, name, name == "parts", generator)]
    columns = pd.MultiIndex.from_product([CLASSES, ["image AUROC", "pixel AUROC"]])
    table = pd.DataFrame(METHODS.values(), index=pd.Index(METHODS, name="method"), columns=columns)
    (folder / "main.html").write_text(formats.to_document(formats.to_html(table, ["A note."]), "Main table"))
    figures = [folder / f"{name}.png" for name in ("qualitative_parts", "qualitative_cloth", "training_curves")]
    for figure in figures[:2]:
        qualitative(*pairs[0][:1], [scores for index, scores in pairs if index == pairs[0][0]], figure)
    Image.new("RGB", (1200, 300), "gray").save(figures[2])
    values = {"nut": 0.2, "<b>bolt</b>": 0.6, "weave": None}
    rows = [
        {
            "method": method,
            "seed": 1,
            "reason": "" if values[of] else "no masks",
            "level": "pixel",
            "metric": "ap",
            "dataset": name,
            "class_name": of,
            "value": values[of],
        }
        for name, classes in CLASSES.items()
        for of in classes
        for method in METHODS
    ]
    pd.DataFrame(rows, columns=METRICS_COLUMNS).to_csv(folder / "metrics.csv", index=False)
    page = folder / "index.html"
    write_page(folder / "main.html", figures, page, "a run", pairs, gallery=6, metrics=folder / "metrics.csv")
    return page.as_uri()


@pytest.fixture
def page(browser, url):
    """Open the page in a wide window; check at the end that the console is empty."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", DESKTOP)
    browser.get_log("performance")
    browser.get(url)
    yield browser
    assert browser.get_log("browser") == []


def prefer(page, scheme: str) -> None:
    """Emulate a preference for light or dark colours."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def tab_to(page, wanted) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(40):
        if page.switch_to.active_element == wanted:
            return
        page.switch_to.active_element.send_keys(Keys.TAB)
    raise AssertionError(f"Tab never reaches {wanted.get_attribute('outerHTML')}")


def options(page, name: str) -> list[str]:
    return [option.text for option in page.find_element(By.NAME, name).find_elements(By.TAG_NAME, "option")]


def choose(page, name: str, option: str) -> None:
    """Reach a selection list with Tab and select one of its options with the arrow keys."""
    select = page.find_element(By.NAME, name)
    tab_to(page, select)
    select.send_keys(Keys.HOME, *[Keys.DOWN] * options(page, name).index(option))


def first_column(page) -> list[str]:
    return [cell.text for cell in page.find_elements(By.CSS_SELECTOR, "tbody th")]


def tiles(page) -> list[tuple[bool, float]]:
    """Return for each tile whether it is a mistake, and its image score."""
    found = []
    for tile in page.find_elements(By.CSS_SELECTOR, "#tiles li"):
        score = next(line for line in tile.text.splitlines() if line.startswith("image score "))
        found.append((tile.text[0] == "✗", float(score.removeprefix("image score "))))
    return found


def test_opens_from_disk_and_loads_nothing(page, url):
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requested = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [address for address in requested if not address.startswith("data:")] == [url]


def test_the_table_sorts_by_keyboard(page):
    header = page.find_element(By.CSS_SELECTOR, "thead tr:last-child th:nth-child(2)")
    button = header.find_element(By.TAG_NAME, "button")
    assert button.get_attribute("aria-label") == "parts image AUROC"
    tab_to(page, button)
    assert button.value_of_css_property("outline-style") == "solid"
    orders = [(header.get_attribute("aria-sort"), first_column(page))]
    for key in (Keys.ENTER, Keys.SPACE, Keys.ENTER):
        button.send_keys(key)
        orders.append((header.get_attribute("aria-sort"), first_column(page)))
    assert orders == [
        ("none", ["alpha", "beta", "gamma"]),
        ("descending", ["beta", "gamma", "alpha"]),
        ("ascending", ["alpha", "gamma", "beta"]),
        ("none", ["alpha", "beta", "gamma"]),
    ]


def test_missing_numbers_stay_last_and_one_header_sorts_at_a_time(page):
    headers = page.find_elements(By.CSS_SELECTOR, "thead tr:last-child th")
    name, _, pixel = headers[:3]
    pixel.find_element(By.TAG_NAME, "button").click()
    assert first_column(page) == ["beta", "alpha", "gamma"]
    pixel.find_element(By.TAG_NAME, "button").click()
    assert first_column(page) == ["alpha", "beta", "gamma"]
    for _ in range(2):
        name.find_element(By.TAG_NAME, "button").click()
    assert first_column(page) == ["gamma", "beta", "alpha"]
    assert [header.get_attribute("aria-sort") for header in headers] == ["descending"] + ["none"] * 4


def test_opens_with_the_last_method_and_its_class_of_highest_pixel_ap(page):
    chosen = {name: page.find_element(By.NAME, name).get_property("value") for name in ("dataset", "class", "method")}
    assert chosen == {"dataset": "parts", "class": "<b>bolt</b>", "method": "gamma"}
    why = "Opens with gamma on <b>bolt</b> (parts): of all classes the one with its highest pixel AP, 60 %."
    assert why in page.find_element(By.TAG_NAME, "main").text
    figures = page.find_elements(By.CSS_SELECTOR, "details.of-target")
    assert [(figure.text.splitlines()[0], figure.get_property("open")) for figure in figures] == [
        ("parts", True),
        ("cloth", False),
    ]
    figures[1].find_element(By.TAG_NAME, "summary").click()
    assert [figure.get_property("open") for figure in figures] == [False, True]  # one at a time


def enlarged(page) -> list[float]:
    """Return the width on the screen of each picture in the dialog; the list is empty while it is closed."""
    images = page.find_elements(By.CSS_SELECTOR, "dialog[open] img")
    return [image.rect["width"] for image in images]


def test_a_click_or_a_key_enlarges_a_picture_and_escape_closes_it(page):
    tile = page.find_element(By.CSS_SELECTOR, "#tiles li")
    button = tile.find_element(By.TAG_NAME, "button")
    before = button.find_element(By.TAG_NAME, "img").rect["width"]
    assert enlarged(page) == []
    tab_to(page, button)
    button.send_keys(Keys.ENTER)
    assert len(enlarged(page)) == len(button.find_elements(By.TAG_NAME, "img"))
    assert min(enlarged(page)) > 2 * before
    dialog = page.find_element(By.TAG_NAME, "dialog")
    assert all(line in dialog.text for line in tile.text.splitlines())
    dialog.send_keys(Keys.ESCAPE)
    assert enlarged(page) == []
    assert page.switch_to.active_element == button
    figure = page.find_element(By.CSS_SELECTOR, "#training_curves ~ .scroll button")
    figure.click()
    assert enlarged(page)[0] >= 1200  # at its own size
    page.find_element(By.CSS_SELECTOR, "dialog form button").click()
    assert enlarged(page) == []


def test_row_names_stay_visible_when_a_phone_scrolls_the_table(page):
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    table = page.find_element(By.CSS_SELECTOR, ".scroll:has(table)")
    names = page.find_elements(By.CSS_SELECTOR, "tbody th, thead tr > th:first-child")
    value = page.find_element(By.CSS_SELECTOR, "tbody td")
    place = "return arguments[0].getBoundingClientRect().left"
    before = [page.execute_script(place, name) for name in names]
    moved = page.execute_script("arguments[0].scrollLeft = 120; return arguments[0].scrollLeft", table)
    assert moved > 60  # the table is wider than the phone
    assert [page.execute_script(place, name) for name in names] == before
    assert page.execute_script(place, value) < before[0] + PHONE["width"] / 2
    paper = "return getComputedStyle(arguments[0]).backgroundColor"
    # values scroll behind the names, so their background must be opaque
    assert all(page.execute_script(paper, name) != "rgba(0, 0, 0, 0)" for name in names)


def test_the_dark_theme_inverts_figures_and_leaves_photographs(page):
    """Check screenshots of the first anomaly maps: background and text swap colours, images stay unchanged."""
    shots = []
    for scheme in ("light", "dark"):
        prefer(page, scheme)
        figure = page.find_element(By.CSS_SELECTOR, "details[open] .figure")
        page.execute_script("arguments[0].scrollIntoView()", figure)
        shots.append(np.asarray(Image.open(io.BytesIO(figure.screenshot_as_png)).convert("L"), dtype=int))
    light, dark = shots
    left, top, width, height = page.execute_script(
        "const [box, part] = [arguments[0], arguments[0].querySelector('i')].map((of) => of.getBoundingClientRect());"
        "return [part.left - box.left, part.top - box.top, part.width, part.height]",
        figure,
    )
    inside = np.s_[int(top) + 3 : int(top + min(height, 200)) - 3, int(left) + 3 : int(left + width) - 3]
    assert np.abs(light[inside] - dark[inside]).mean() < 12  # a black image is as bright as the dark background
    assert light[: int(top) - 30].mean() > 200 and dark[: int(top) - 30].mean() < 80


def test_the_gallery_shows_the_selected_method_and_class(page):
    assert options(page, "dataset") == ["parts", "cloth"]
    assert options(page, "method") == list(METHODS)
    seen = set()
    for dataset, classes in CLASSES.items():
        choose(page, "dataset", dataset)
        assert sorted(options(page, "class")) == sorted(classes)
        for class_name in classes:
            choose(page, "class", class_name)
            for method in METHODS:
                choose(page, "method", method)
                shown = tiles(page)
                assert len(shown) == 6
                assert shown == sorted(shown, key=lambda tile: (not tile[0], -tile[1]))
                seen.add(tuple(shown))
    assert len(seen) == 9  # three classes by three methods, each with its own scores


def test_a_tile_shows_a_mask_only_if_its_dataset_has_masks(page):
    for dataset, captions in (("parts", ["image", "mask", "heat map"]), ("cloth", ["image", "heat map"])):
        choose(page, "dataset", dataset)
        tile = page.find_element(By.CSS_SELECTOR, "#tiles li")
        assert [caption.text for caption in tile.find_elements(By.CLASS_NAME, "caption")] == captions
    broken = "return [...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
    assert page.execute_script(broken) == 0


def test_the_summary_counts_the_mistakes(page):
    choose(page, "dataset", "cloth")
    assert page.find_element(By.ID, "summary").get_attribute("role") == "status"
    summary = page.find_element(By.ID, "summary").text
    assert summary.startswith("6 of 8 images shown. At the image score threshold 0.")
    verdicts = [verdict.text for verdict in page.find_elements(By.CLASS_NAME, "verdict")]
    missed, false_alarms = int(summary.split("missed ")[1][0]), int(summary.split("false alarms ")[1][0])
    assert verdicts.count("✗ missed") == min(missed, 3)  # half of the six tiles
    assert verdicts.count("✗ false alarm") == min(false_alarms, 3)


@pytest.mark.parametrize("dataset", CLASSES)
def test_nothing_is_wider_than_a_phone_screen(page, dataset):
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    choose(page, "dataset", dataset)
    assert page.execute_script("return innerWidth") == PHONE["width"]
    assert page.execute_script("return document.documentElement.scrollWidth") == PHONE["width"]
    assert page.execute_script(SPILLING) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_to_its_background(page, scheme):
    prefer(page, scheme)
    assert min(page.execute_script(CONTRASTS)) >= 4.5  # WCAG 2.2, level AA
    paper = page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    assert ("255, 255, 255" in paper) == (scheme == "light")
