"""Compare derived dependencies with the imports of Python, and digests with edits, in copies of the package."""

import ast
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from kanoclip import code_digest
from kanoclip.cli.methods import evaluate
from kanoclip.code_digest import Package
from kanoclip.methods import method_class, method_names
from kanoclip.python_source import meaning, statements

ROOT = Path(__file__).parents[2]
RULES = "\n".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
COMMANDS = sorted(set(re.findall(r"python -m kanoclip --log \{log:q\} ([\w-]+)", RULES)))
TORCH_FREE = [
    *("download", "prepare", "knowledge", "protocol", "plan", "tables", "runtime", "page", "compare"),
    "list-names",
]
FIGURES = [name for name in code_digest.installed().modules if name.startswith("kanoclip.report.figures.")]
# kanoclip.types re-exports names of kanoclip.logs, and kanoclip.config those of its modules: importing either loads
# modules that may be unused. The digests follow only names that are used; the edits below test that.
UNUSED = {"kanoclip.logs", *(name for name in code_digest.installed().modules if name.startswith("kanoclip.config."))}
# methods that the registry finds by scanning are dependencies of the code that names them
DISCOVERED = [name for name in code_digest.installed().modules if re.fullmatch(r"kanoclip\.methods\.\w+", name)]


@cache
def loaded(command: str, *plugins: str) -> set[str]:
    """Return every module that the imports of a command and some plugins load, in a separate process."""
    script = """
import ast, importlib, json, sys
from pathlib import Path
module, name, *plugins = sys.argv[1:]
functions = {node.name: node for node in ast.parse(Path(module).read_text()).body if isinstance(node, ast.FunctionDef)}
inside = [node for node in ast.walk(functions[name]) if isinstance(node, (ast.Import, ast.ImportFrom))]
exec(compile(ast.Module(inside, []), module, "exec"))
for plugin in plugins:
    importlib.import_module(plugin)
print(json.dumps(sorted(sys.modules)))
"""
    module, _, name = code_digest.installed().command(command).partition(":")
    arguments = [sys.executable, "-c", script, str(code_digest.installed().modules[module]), name, *plugins]
    return set(json.loads(subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True).stdout))


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "figure"])  # it loads modules by name
def test_the_derived_dependencies_cover_what_a_command_loads(command: str) -> None:
    package = code_digest.installed()
    used = {name for name in loaded(command) if f"{name}.".startswith("kanoclip.")} - UNUSED
    assert len(used) > 3
    plugins = DISCOVERED if "kanoclip.methods" in used else []
    units = package.dependencies(package.command(command), *plugins)
    assert used <= {unit.partition(":")[0] for unit in units}


@pytest.mark.parametrize("figures", FIGURES)
def test_the_derived_dependencies_of_figures_cover_their_imports_without_torch(figures: str) -> None:
    package, names = code_digest.installed(), loaded("figure", figures)
    used = {name for name in names if f"{name}.".startswith("kanoclip.")} - UNUSED
    units = package.dependencies(package.command("figure"), figures)
    assert used <= {unit.partition(":")[0] for unit in units}
    assert not {"torch", "open_clip"} & names


@pytest.mark.parametrize("command", TORCH_FREE)
def test_commands_that_read_tables_maps_and_images_load_no_torch(command: str) -> None:
    assert not {"torch", "open_clip"} & loaded(command)


@pytest.mark.parametrize("what", ["datasets", "methods", "metrics", "backbones"])
def test_lists_load_no_torch(what: str) -> None:
    """Python lists every module that it loads on standard error."""
    command = [sys.executable, "-X", "importtime", "-m", "kanoclip", "list", what]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "kanoclip.cli.names" in names and not {"torch", "open_clip"} & names
    assert len(result.stdout.split()) > 4


def test_methods_are_found_without_importing_them() -> None:
    assert code_digest.installed().methods == {name: method_class(name).__module__ for name in method_names()}


def test_every_data_file_is_a_dependency_of_a_module() -> None:
    package = code_digest.installed()
    suffixes = {".yaml", ".json", ".safetensors", ".sha256", ".j2", ".css", ".js", ".mplstyle", ".csv"}
    files = {path.relative_to(package.root).as_posix() for path in package.root.rglob("*") if path.suffix in suffixes}
    plugins = {file for file in files if file.rpartition("/")[0] in code_digest.PLUGINS}
    assert len(plugins) > 20
    assert files - plugins <= package.dependencies(*package.modules)
    assert not plugins & package.dependencies(*package.modules)
    for file in plugins:
        assert file in package.dependencies(file)


@pytest.fixture
def written(tmp_path: Path) -> Package:
    """Write a small package with every form of import."""
    files = {
        "__init__.py": "",
        "a.py": "from p import b\nfrom p.c import thing\nimport p.d.e\n\ndef f():\n    from .g import h\n",
        "b.py": "",
        "c/__init__.py": "from .inner import thing\nfrom ..b import x\n",
        "c/inner.py": "FILE = 'words.txt'\nFOLDER = 'many'\nTEMPLATE = 'page.j2'\nOTHER = 'nothing.txt'\nthing = ''\n",
        "c/words.txt": "words",
        "c/many/one.csv": "1",
        "c/many/deep/two.csv": "2",
        "c/page.j2": "{% include 'part.html' %}",
        "c/part.html": "part",
        "c/unused.txt": "",
        "d/__init__.py": "",
        "d/e.py": "from importlib.resources import files\nTEXT = files('p.c').joinpath('unused.txt')\n",
        "g.py": "import h\nfrom q.b import h\n",
        "h.py": "",
        "config.py": "A = 1\nclass First:\n    b: int = A\nclass Second:\n    c = 2\n",
        "reader.py": "from p.config import First\n",
    }
    for name, text in files.items():
        path = tmp_path / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Package(tmp_path / "p", "p")


def test_every_form_of_import_is_followed(written: Package) -> None:
    modules = {"p", "p.a", "p.b", "p.c", "p.c.inner", "p.d", "p.d.e", "p.g"}
    data = {"c/words.txt", "c/many/one.csv", "c/many/deep/two.csv", "c/page.j2", "c/part.html"}
    assert written.dependencies("p.a") == modules | data | {"c/unused.txt"}
    assert written.dependencies("p.c") == {"p", "p.c", "p.c.inner", "p.b"} | data
    assert written.dependencies("p.a", without=["p.d", "p.c.inner"]) == {"p", "p.a", "p.b", "p.c", "p.g"}
    assert written.dependencies("p.reader") == {"p", "p.reader", "p.config:First", "p.config:A"}


@pytest.mark.parametrize("unit", ["p.z", "p.a:z", "c/z.txt"])
def test_unknown_units_are_refused(written: Package, unit: str) -> None:
    with pytest.raises(KeyError):
        written.dependencies(unit)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f(x):\n    return x\n", '"""Text."""\n\n\ndef f(x):  # why\n    """Do."""\n    return (x)\n'),
        ("import a\nimport b\nx = [1, 2]\n", "import b\nimport a\n\nx = [\n    1,\n    2,\n]\n"),
        ("from a import b, c\n", "from a import (\n    c,\n)\nfrom a import b\n"),
        ("class A:\n    x = 1\n", 'class A:\n    """What."""\n\n    x = 1\n    """Of x."""\n'),
        ("__version__ = '1'\nx = 1\n", "__version__ = '2'\nx = 1\n"),
    ],
)
def test_edits_without_effect_keep_the_digest(before: str, after: str) -> None:
    first, second = ([entry.digest for entry in statements(text.encode())] for text in (before, after))
    assert first == second


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1\n", "x = 2\n"),
        ("x = 1\n", "x = 1.0\n"),
        ("x = 1\n", "x = True\n"),
        ("x = 'a'\n", "x = b'a'\n"),
        ("x = None\n", "x = ...\n"),
        ("def f(x): return x\n", "def f(x, *, y=None): return x\n"),
        ("def f(): return None\n", "def f(): return\n"),
        ("def f(x=(), *, y): pass\n", "def f(x, *, y=()): pass\n"),
        ("from a import b\n", "from a import b as c\n"),
        ("from a import b\n", "from .a import b\n"),
        ("x = a < b\n", "x = a <= b\n"),
        ("x = {**a, 'b': 1}\n", "x = {'b': 1, **a}\n"),
        ("f'{x:.2f}'\nx = f'{x:.2f}'\n", "f'{x:.2f}'\nx = f'{x:.3f}'\n"),
        ("f()\ng()\n", "g()\nf()\n"),
        ("if a:\n    b()\nelse:\n    c()\n", "if a:\n    b()\n    c()\n"),
    ],
)
def test_edits_with_an_effect_change_the_digest(before: str, after: str) -> None:
    first, second = ([entry.digest for entry in statements(text.encode())] for text in (before, after))
    assert first != second


def test_keyword_only_arguments_without_a_default_keep_their_place() -> None:
    texts = ("def f(*, a, b=1): pass", "def f(*, a=1, b): pass")
    assert len({meaning(ast.parse(text)) for text in texts}) == 2


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy") / "kanoclip"
    return shutil.copytree(ROOT / "kanoclip", folder, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture(scope="module")
def unedited(copied: Path) -> dict[str, str]:
    return digests(copied)


def digests(root: Path) -> dict[str, str]:
    """Return the digests of all commands, and of those that run a method once per method."""
    package = Package(root)
    found = {command: package.digest(package.command(command)) for command in COMMANDS}
    found["prepare elpv"] = package.digest(
        package.command("prepare"), "datasets/specs/elpv.yaml", without=["kanoclip.datasets.synthetic"]
    )
    for command in ("train", "score-pass"):
        for name, module in package.methods.items():
            found[f"{command} {name}"] = package.digest(package.command(command), module)
    return found


EVALUATE = f'"""{evaluate.__doc__}"""'  # replace its docstring by a statement
ALL_METHODS = set(code_digest.installed().methods)


@pytest.mark.parametrize(
    ("file", "before", "after", "changed", "kept"),
    [
        (
            "datasets/synthetic/render.py",
            "def extent_name(",
            "def extent_name(unused: int, ",
            {"knowledge", "prepare", "pretrain"},
            {"prepare elpv", "encode", "evaluate", "tables"},
        ),
        (
            "methods/clip.py",
            "class Clip(Method[ClipOptions]):",
            "class Clip(Method[ClipOptions]):\n    edited = True\n",
            {"score-pass clip", "score-pass clip_ac"},
            {f"score-pass {name}" for name in ALL_METHODS - {"clip", "clip_ac"}}
            | {"encode", "train kanoclip", "prepare"},
        ),
        (
            "prompts/templates.yaml",
            "a photo of",
            "a picture of",
            {"score-pass clip_ac", "train kanoclip"},
            {"encode", "score-pass oracle"},
        ),
        (
            "config/pretraining.py",
            "pairs: int = Field(24_000",
            "pairs: int = Field(25_000",
            {"pretrain", "protocol"},
            {"encode", "train kanoclip", "evaluate", "knowledge"},
        ),
        (
            "config/backbone.py",
            "        518,",
            "        336,",
            {"encode", "train", "score-pass", "pretrain", "protocol"},
            {"prepare", "knowledge", "evaluate"},
        ),
        (
            "cli/methods.py",
            EVALUATE,
            "bootstrap += 1",
            {"evaluate"},
            {"train", "score-pass", "encode", "pretrain"},
        ),
        (
            "devices.py",
            "torch.set_num_threads(threads)",
            "torch.set_num_threads(threads + 1)",
            {"train", "score-pass", "encode", "evaluate", "pretrain"},
            {"prepare", "knowledge", "tables", "page", "figure"},
        ),
        ("logs.py", '"""Send log lines to standard error, or', '"""Send log lines elsewhere, or', set(), None),
        ("report/page.css", "{", "{ ", {"page"}, {"tables", "evaluate"}),
    ],
)
def test_an_edit_changes_the_digests_that_depend_on_it(
    copied: Path,
    unedited: dict[str, str],
    file: str,
    before: str,
    after: str,
    changed: set[str],
    kept: set[str] | None,
) -> None:
    """With `kept` None, no other digest changes."""
    path = copied / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    try:
        second = digests(copied)
    finally:
        path.write_text(text)
    differing = {name for name in unedited if unedited[name] != second[name]}
    assert changed <= differing
    assert not differing & (kept if kept is not None else set(unedited) - changed)


def test_a_digest_does_not_depend_on_the_folder(copied: Path) -> None:
    here, there = code_digest.installed(), Package(copied)
    assert here.digest(*here.modules) == there.digest(*there.modules)


def test_comments_and_formatting_keep_all_digests(copied: Path, unedited: dict[str, str]) -> None:
    texts = {path: path.read_text() for path in copied.rglob("*.py")}
    for path, text in texts.items():
        without = re.sub(r"\n\n\n+", "\n\n", text)
        path.write_text(f"# edited\n{without}\n\n# edited\n")
    try:
        assert digests(copied) == unedited
    finally:
        for path, text in texts.items():
            path.write_text(text)
