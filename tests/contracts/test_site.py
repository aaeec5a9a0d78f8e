"""The documentation builds without a warning, and its pages need no network."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_site_builds_without_warnings_and_works_offline(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs"]
    folders = ["-d", str(tmp_path / "doctrees"), str(tmp_path / "site")]
    built = subprocess.run([*command, *folders], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr  # a broken link or a missing reference is a warning
    pages = {str(page.relative_to(tmp_path / "site")): page.read_text() for page in (tmp_path / "site").rglob("*.html")}
    assert {f"{page.relative_to(ROOT / 'docs').with_suffix('.html')}" for page in (ROOT / "docs").rglob("*.md")} <= set(
        pages
    )
    loaded = re.compile(r"""<(?:script|link|img)[^>]*(?:src|href)=["'](https?:[^"']+)""")
    elsewhere = {name: found for name, text in pages.items() if (found := loaded.findall(text))}
    assert not elsewhere
