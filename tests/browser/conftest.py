"""A browser for the tests of this folder."""

import shutil
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    """Start Chromium without a window; its logs tell errors and loaded addresses."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        pytest.fail(f"{' and '.join(missing)} not found; CONTRIBUTING says how to install them")
    options = ChromeOptions()
    options.binary_location = str(programs["chromium"])
    # containers lack user namespaces and have little shared memory; it is safe because we open only our own page
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--lang=en"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=ChromeService(programs["chromedriver"]))
    yield driver
    driver.quit()
