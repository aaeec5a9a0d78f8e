"""Test the declarations of figures, and that reading them imports nothing heavy."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from docutils.core import publish_parts

from kanoclip.report import registry
from kanoclip.report.registry import INPUTS, declarations, figures, named, of_file
from kanoclip.types import InputError

MODULE = """
from kanoclip.report.registry import figure

raise RuntimeError("declarations are read, not imported")


@figure(per="run", place=5, least={"methods": 2})
def portrait(metrics, methods, out, width=3):
    \"\"\"A portrait.

    What it shows, in
    two lines.

    A second paragraph.

    Args:
        metrics: a file.
    \"\"\"


def helper():
    \"\"\"Not a figure.\"\"\"
"""


def test_a_declaration_is_read_from_the_source(tmp_path):
    path = tmp_path / "portraits.py"
    path.write_text(MODULE)
    (portrait,) = declarations(path)
    assert (portrait.name, portrait.module, portrait.title) == ("portrait", "portraits", "A portrait")
    assert portrait.caption == "What it shows, in two lines. A second paragraph."
    assert portrait.inputs == ("metrics", "methods")
    assert (portrait.per, portrait.place, portrait.category) == ("run", 5, "Results")
    assert portrait.can_be_drawn({"metrics": ["m.csv"], "methods": ["clip", "mvfa"]})
    assert not portrait.can_be_drawn({"metrics": ["m.csv"], "methods": ["clip"]})
    assert not portrait.can_be_drawn({"methods": ["clip", "mvfa"]})


@pytest.mark.parametrize(
    "wrong",
    ["def p(people, out):\n    'Title.\\n\\nCaption.'", "def p(out):\n    'Title.'", "def p(out):\n    pass"],
)
def test_incomplete_declarations_are_refused(tmp_path, wrong):
    (tmp_path / "portraits.py").write_text(f"@figure()\n{wrong}\n")
    with pytest.raises(ValueError, match="portraits.py, p: a figure needs a title, a caption and inputs among"):
        declarations(tmp_path / "portraits.py")


def test_declarations_read_from_source_equal_those_imported():
    for figure in figures().values():
        function = getattr(import_module(f"kanoclip.report.figures.{figure.module}"), figure.name)
        parameters = inspect.signature(function).parameters.values()
        required = [parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty]
        assert sorted(required) == sorted([*figure.inputs, "out"])
        assert " ".join(inspect.getdoc(function).split()).startswith(f"{figure.title}. {figure.caption}")


def test_captions_are_plain_text_in_the_report():
    for figure in figures().values():
        body = publish_parts(figure.caption, writer="html", settings_overrides={"report_level": 1})["body"]
        assert body.count("<p>") == 1 and body.count("<") == 2, figure.name  # no markup and no warnings
        assert figure.caption.endswith(".")


def test_listing_figures_imports_nothing_heavy():
    program = (
        "import sys; from kanoclip.report.registry import figures; figures();"
        "print([name for name in ('matplotlib', 'pandas', 'seaborn', 'torch', 'h5py') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["cli.figures", "report.page", "report.tables", "report.runtime", "report.grid"])
def test_commands_that_only_read_import_neither_torch_nor_seaborn(module):
    program = (
        f"import sys; import kanoclip.{module};"
        "print([name for name in ('torch', 'open_clip', 'seaborn', 'sklearn') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_figure_of_a_file_follows_from_its_name(monkeypatch):
    assert of_file(Path("figures/qualitative_my_parts.png")) == (named("qualitative"), "my_parts")
    assert of_file(Path("teaser.png")) == (named("teaser"), None)
    longer = registry.Figure("bars_of", "bars", "Longer", "Longer.", ())
    both = {"bars": named("bars"), "bars_of": longer}
    monkeypatch.setattr(registry, "figures", lambda: both)
    assert of_file(Path("bars_of_elpv.png")) == (longer, "elpv")
    with pytest.raises(InputError, match=r"barsoap\.png: no figure has this name"):
        of_file(Path("barsoap.png"))


def test_a_missing_input_is_reported_in_one_line(tmp_path):
    with pytest.raises(
        InputError, match=r"figure bars: expected --metrics, found none; give the long-format metrics.csv"
    ):
        named("bars").draw({"methods": ["clip"]}, tmp_path / "bars.png")
    with pytest.raises(InputError, match="unknown figure 'barz'; did you mean 'bars'"):
        named("barz")


def test_the_command_has_an_option_for_every_input():
    from kanoclip.cli.figures import figure as command

    assert set(inspect.signature(command).parameters) == {"drawn", *INPUTS}
