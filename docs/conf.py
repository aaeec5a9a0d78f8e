"""The documentation site: `make docs` writes it to site/, for a browser without network."""

import os
import re
import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx

from kanoclip import __version__

ROOT = Path(__file__).parents[1]
project = "kanoclip"
author = "the authors of kanoclip"
release = version = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx-mathjax-offline",  # MathJax travels with the site
    "sphinx_copybutton",
]
exclude_patterns: list[str] = []
html_theme = "furo"
html_title = "kanoclip"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 4
autodoc_typehints = "description"
autodoc_member_order = "bysource"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# pages whose text lives outside docs/, because other places show it too
OUTSIDE = {
    "readme": Path("README.md"),
    "contributing": Path("CONTRIBUTING.md"),
    "reference/configuration": Path("config/README.md"),
    "reference/results": Path("results/README.md"),
    "kanoclip-tiny": Path("kanoclip/backbones/tiny/README.md"),
    "shipped-detector": Path("kanoclip/predict/embedded/README.md"),
}
LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)(#[\w-]+)?(?=\))")


def read_page(app: Sphinx, name: str, text: list[str]) -> None:
    """Take the text of a page from where it lives, and make its links lead to pages or files that the site has."""
    source = OUTSIDE.get(name, Path("docs") / f"{name}.md")
    here = (Path("docs") / name).parent
    pages = {path: Path("docs") / f"{page}.md" for page, path in OUTSIDE.items()}

    def link(found: re.Match[str]) -> str:
        target = Path(os.path.normpath(source.parent / found[1]))
        target = pages.get(target, target)
        if (ROOT / target).is_dir():
            return f"path:{target}"
        return os.path.relpath(target, here) + (found[2] or "")

    # a folder is not a page: what remains is its name
    text[0] = re.sub(r"\[([^\]]*)\]\(path:[^)]*\)", r"\1", LINK.sub(link, (ROOT / source).read_text(encoding="utf-8")))


def write_command_line(app: Sphinx) -> None:
    """Write the page of all commands from their help."""
    out = ROOT / "docs/reference/commands.md"
    made = [sys.executable, "-m", "typer", "kanoclip.cli", "utils", "docs", "--name", "kanoclip"]
    text = subprocess.run(made, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    # the epilog of a command is an example, indented as in its help
    text = re.sub(r"\x08\nExample:\n((?: +.+\n)+)", r"**Example**:\n\n```bash\n\1```\n", text)
    text = re.sub(r"(?<=```bash\n)  (?=kanoclip )", "", text)
    title = "# Command line\n\nEvery command with its options, from `kanoclip COMMAND --help`.\n\n"
    text = title + text.split("\n", 2)[2]
    if not out.is_file() or out.read_text() != text:
        out.write_text(text)


def setup(app: Sphinx) -> None:
    """Register what happens while the site is built."""
    app.connect("builder-inited", write_command_line)
    app.connect("source-read", read_page)
