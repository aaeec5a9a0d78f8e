"""MathJax, which the site includes, renders every formula of the documentation in a real browser.

Needs Debian's chromium and chromedriver (CONTRIBUTING); without them this test fails.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

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


def test_every_formula_is_rendered(browser: Chrome, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", tmp_path / "trees", "docs", tmp_path / "site"]
    subprocess.run(command, cwd=ROOT, check=True)
    pages = [page for page in (tmp_path / "site").rglob("*.html") if 'class="math' in page.read_text(encoding="utf-8")]
    assert len(pages) > 12
    for page in pages:
        browser.get(page.as_uri())
        browser.execute_async_script(WAIT)
        assert browser.execute_script(ERRORS) == [], page
        rendered, written = browser.execute_script(COUNTS)
        assert rendered == written > 0, page
