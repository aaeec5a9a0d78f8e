"""Test the page of a prediction on 5,000 images in a real browser, opened from disk.

Needs Debian's chromium and chromedriver (CONTRIBUTING); without them these tests fail.
"""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from kanoclip.backbones.clip import load_backbone
from kanoclip.config import BackboneConfig
from kanoclip.methods import method_class
from kanoclip.predict import Detector, Threshold
from kanoclip.predict.drawing import Pictures
from kanoclip.predict.gallery import write_gallery
from kanoclip.predict.records import Records, record_of
from kanoclip.predict.result import Result

pytestmark = pytest.mark.slow

IMAGES = 5000
NASTY = "<script>document.title = 'taken'</script>.png".replace("/", "∕")
LONG = "a_very_long_name_without_any_space_" * 4 + ".png"
SECONDS = 15  # a busy machine opens the page in 2 s
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
DESKTOP = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}


def detector() -> Detector:
    """Return a detector that only has to give its description."""
    config = BackboneConfig(model="kanoclip-test", weights="random:0", image_size=32)
    kind = method_class("clip")
    found = Detector(kind(load_backbone(config, "cpu"), kind.Options(), 0), "clip", "nut")
    found.threshold = Threshold(0.5, 0.5, "a threshold for tests")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a prediction of 5,000 images whose scores rise with their number; all share the pictures of ten."""
    out = tmp_path_factory.mktemp("prediction")
    one = detector()
    names = [f"{number:04}.png" for number in range(IMAGES - 2)] + [NASTY, LONG]
    generator = np.random.default_rng(0)
    results = []
    for number in range(10):
        rows, columns = np.mgrid[:32, :32] / 32
        spot = np.exp(-20 * ((rows - 0.3) ** 2 + (columns - number / 10) ** 2)).astype(np.float32)
        image = Image.fromarray(generator.integers(90, 160, (32, 48, 3), dtype=np.uint8))
        results.append(Result(0.0, spot, image, one.threshold, f"{number}"))
    pictures = Pictures(out)
    for result in results:
        pictures.write(result, result.name, (0.0, 1.0))
    drawn = [path for kind in ("heat", "masks", "thumbnails") for path in sorted((out / kind).iterdir())]
    with Records(out, lambda record: True) as records:
        for number, name in enumerate(names):
            like = results[number % 10]
            made = Result(number / IMAGES, like.square, like.image, one.threshold, name)
            records.add([record_of(made, name, name, [1, 1])])
            for path in drawn:
                if path.name.split(".")[0] == like.name and path.stat().st_nlink < 60_000:
                    (path.parent / path.name.replace(like.name, name, 1)).hardlink_to(path)
    write_gallery(out, one, True, "")
    return out


@pytest.fixture
def page(browser, folder: Path):
    """Open the page in a wide window; check at the end that the console is empty."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", DESKTOP)
    browser.get((folder / "index.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []


def captions(page) -> list[str]:
    return [one.text for one in page.find_elements(By.TAG_NAME, "figcaption")]


def test_opens_in_seconds_and_shows_the_highest_scores_first(page, folder: Path) -> None:
    start = time.monotonic()
    page.get((folder / "index.html").as_uri())
    WebDriverWait(page, SECONDS).until(lambda _: captions(page))
    first = page.find_element(By.CSS_SELECTOR, ".stack img")
    WebDriverWait(page, SECONDS).until(lambda _: first.get_property("naturalWidth") > 0)
    assert time.monotonic() - start < SECONDS
    assert f"{IMAGES:,}".replace(",", "") in page.find_element(By.ID, "count").text
    assert [text[:6] for text in captions(page)[:3]] == ["0.9998", "0.9996", "0.9994"]
    assert len(captions(page)) < 500  # scrolling adds the rest
    shown = len(captions(page))
    page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    WebDriverWait(page, SECONDS).until(lambda _: len(page.find_elements(By.TAG_NAME, "figure")) > shown)


def test_a_file_name_with_markup_is_shown_as_text(page) -> None:
    assert page.title == "Predictions"
    assert any(NASTY in text for text in captions(page)[:2])
    assert not page.find_elements(By.CSS_SELECTOR, "figcaption script")


def test_images_are_filtered_by_decision_and_by_name(page) -> None:
    decision = Select(page.find_element(By.ID, "decision"))
    for chosen, count in (("normal", IMAGES // 2), ("anomalous", IMAGES // 2)):
        decision.select_by_visible_text(chosen)
        assert page.find_element(By.ID, "count").text == f"{count} images"
        classes = {one.get_attribute("class") for one in page.find_elements(By.TAG_NAME, "figure")}
        assert classes == {chosen}
    page.find_element(By.ID, "search").send_keys("499")
    assert page.find_element(By.ID, "count").text == "10 images"  # 3499, 4499 and 4990 to 4997


def test_the_slider_changes_the_opacity_of_the_maps(page) -> None:
    image, heat = page.find_elements(By.CSS_SELECTOR, ".stack img")[:2]
    for value in ("0", "25", "100"):
        page.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            page.find_element(By.ID, "opacity"),
            value,
        )
        assert float(heat.value_of_css_property("opacity")) == pytest.approx(int(value) / 100)
        assert float(image.value_of_css_property("opacity")) == 1


def test_a_phone_scrolls_only_vertically(page) -> None:
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    page.refresh()
    assert captions(page)
    width = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= 390 and width[1] == 390
