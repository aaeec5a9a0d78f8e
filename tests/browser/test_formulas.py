"""MathJax, which the site includes, renders every formula of the documentation in a real browser.

Needs Debian's chromium and chromedriver (CONTRIBUTING); without them this test fails.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WAIT = """
const done = arguments[0];
const wait = () => window.MathJax?.startup?.promise ? MathJax.startup.promise.then(done) : setTimeout(wait, 50);
wait();
"""
# MathJax marks formulas that it cannot parse, and shows the name of an unknown macro in red
ERRORS = """
const wrong = document.querySelectorAll("[data-mjx-error], mjx-mtext[style*='red'], mjx-math [mathcolor='red']");
return [...wrong].map((node) => node.dataset.mjxError || node.outerHTML);
"""
COUNTS = "return ['mjx-container', '.math'].map((selector) => document.querySelectorAll(selector).length)"


def test_every_formula_is_rendered(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", tmp_path / "trees", "docs", tmp_path / "site"]
    subprocess.run(command, cwd=ROOT, check=True)
    pages = [page for page in (tmp_path / "site").rglob("*.html") if 'class="math' in page.read_text(encoding="utf-8")]
    assert len(pages) > 12
    options = ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--allow-file-access-from-files"):
        options.add_argument(argument)
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    try:
        for page in pages:
            driver.get(page.as_uri())
            driver.execute_async_script(WAIT)
            assert driver.execute_script(ERRORS) == [], page
            rendered, written = driver.execute_script(COUNTS)
            assert rendered == written > 0, page
    finally:
        driver.quit()
