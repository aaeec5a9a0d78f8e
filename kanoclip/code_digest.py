"""Find the modules and data files that a result depends on, from the source and without importing anything.

A *unit* is named by a string:

    kanoclip.maps               a module
    kanoclip.cli.data:encode    one top-level definition of a module
    prompts/templates.yaml      a data file, by its path inside the package

A module depends on the modules of the package that it imports, at its top or inside functions, on their parent
packages, and on the data files and folders beside it that its strings name. A definition depends on the names that it
uses of its module and on its imports; names imported from modules in the same folder are followed as definitions. So
editing one command of the command line affects no other. Names imported from the modules in `BY_DEFINITION` are
followed as definitions too: a new key of the configuration affects only the readers of its group.

Plugins, i.e. the modules of `kanoclip.methods` and the files in the folders `PLUGINS`, are found by scanning. They are
dependencies of the code that names them, not of the registry that scans: a row of the tables depends on the module of
its method, an index on the file of its dataset.

A digest changes with the meaning of the code, not with comments, docstrings, formatting, the order of imports or the
release number. It contains names of units, never paths, so that it is equal in every checkout.
"""

import hashlib
from collections.abc import Iterable
from functools import cache, cached_property
from keyword import iskeyword
from pathlib import Path

from kanoclip.python_source import Import, Statement, quoted_names, registered, statements
from kanoclip.user_cache import remembered

PLUGINS = ("datasets/specs", "knowledge/curated", "methods/published")  # folders with one data file per name
BY_DEFINITION = ("config", "files", "types")  # modules that most others import from
TEMPLATES = (".j2",)  # data files that include others
NO_CODE = (".py", ".pyc", ".md")


class Package:
    """The source of a package, read once.

    Attributes:
        root: its folder.
        name: as imported.
    """

    def __init__(self, root: Path, name: str = "kanoclip"):
        self.root = root
        self.name = name
        self._digests: dict[str, str] = {}
        self._needed: dict[str, frozenset[str]] = {}
        self._listings: dict[Path, set[str]] = {}
        self._by_definition = {f"{name}.{module}" for module in BY_DEFINITION}

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Every module by name; a package stands for its `__init__.py`."""
        found = {}
        for path in sorted(self.root.rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            found[".".join((self.name, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
        return found

    @cached_property
    def statements(self) -> dict[str, list[Statement]]:
        """The statements of every module; cached in the user's cache folder, keyed by the bytes of all files."""
        content = {name: path.read_bytes() for name, path in self.modules.items()}
        key = hashlib.sha256(Path(__file__).with_name("python_source.py").read_bytes())
        for name, text in content.items():
            key.update(f"{name} {len(text)} ".encode() + text)

        def compute() -> dict[str, list[dict[str, object]]]:
            return {
                name: [entry.plain() for entry in statements(text, str(self.modules[name]))]
                for name, text in content.items()
            }

        kept = remembered("code", key.hexdigest(), compute)
        return {name: [Statement.of_plain(entry) for entry in entries] for name, entries in kept.items()}

    def dependencies(self, *units: str, without: Iterable[str] = ()) -> frozenset[str]:
        """Return units and all they depend on, transitively.

        Args:
            units: where to start.
            without: modules to leave out, with everything inside them and everything that only they need.

        Raises:
            KeyError: the package has no such unit.
        """
        barred = tuple(without)
        found: set[str] = set()
        waiting = list(units)
        while waiting:
            unit = waiting.pop()
            if unit not in found and not any(f"{unit}.".startswith(f"{name}.") for name in barred):
                found.add(unit)
                waiting += self._direct_once(unit)
        return frozenset(found)

    def digest(self, *units: str, without: Iterable[str] = ()) -> str:
        """Return the SHA-256 of the meaning of units and their dependencies; see `dependencies` for the arguments."""
        total = hashlib.sha256()
        for unit in sorted(self.dependencies(*units, without=without)):
            total.update(f"{unit} {self._own_digest(unit)}\n".encode())
        return total.hexdigest()

    def command(self, name: str) -> str:
        """Return the unit of a command of the command line, e.g. of "score-pass".

        Raises:
            KeyError: there is no such command.
        """
        function = name.replace("-", "_") + "_" * iskeyword(name)
        for module in self.modules:
            if module.startswith(f"{self.name}.cli.") and self._defines(module, function):
                return f"{module}:{function}"
        raise KeyError(f"no module of {self.name}.cli defines a command {name}")

    @cached_property
    def methods(self) -> dict[str, str]:
        """Every method: name to the module that registers it."""
        return {
            method: module
            for module, path in self.modules.items()
            if module.startswith(f"{self.name}.methods.") and b"register(" in (source := path.read_bytes())
            for method in registered(source, "register", str(path))
        }

    def method_module(self, name: str) -> str:
        """Return the module that registers a method.

        Raises:
            KeyError: there is no such method.
        """
        return self.methods[name]

    def _defines(self, module: str, name: str) -> bool:
        return any(name in entry.defines for entry in self.statements[module])

    def _own_digest(self, unit: str) -> str:
        """Return the digest of a unit's meaning, without its dependencies."""
        if unit not in self._digests:
            module, _, definition = unit.partition(":")
            if module in self.modules:
                parts = [s.digest for s in self.statements[module] if definition in ("", *s.defines)]
                content = "\n".join(parts).encode()
            else:
                content = (self.root / unit).read_bytes()
            self._digests[unit] = hashlib.sha256(content).hexdigest()
        return self._digests[unit]

    def _direct_once(self, unit: str) -> frozenset[str]:
        if unit not in self._needed:
            self._needed[unit] = frozenset(self._direct(unit))
        return self._needed[unit]

    def _direct(self, unit: str) -> set[str]:
        """Return the direct dependencies of a unit."""
        module, _, definition = unit.partition(":")
        if module not in self.modules:
            return self._of_data(unit)
        if not definition:
            parent = {module.rpartition(".")[0]} - {""}
            return parent.union(*(self._needs(module, entry) for entry in self.statements[module]))
        own = [entry for entry in self.statements[module] if definition in entry.defines]
        if not own:
            raise KeyError(f"{module} defines no {definition}")
        needed = {f"{module}:{name}" for entry in own for name in entry.uses}
        return needed.union(*(self._needs(module, entry, by_definition=True) for entry in own))

    def _of_data(self, unit: str) -> set[str]:
        """Return the data files that a template names."""
        path = self.root / unit
        if not path.is_file():
            raise KeyError(f"{self.name} has neither a module nor a data file {unit}")
        return self._data(path.parent, quoted_names(path.read_text("utf-8"))) if path.suffix in TEMPLATES else set()

    def _needs(self, module: str, entry: Statement, by_definition: bool = False) -> set[str]:
        """Return the units that a statement of a module imports or names."""
        folder = self.modules[module].parent
        needed = self._data(folder, entry.strings)
        for text in entry.strings:  # importlib.resources names the package that holds the file
            if text in self.modules and self.modules[text].name == "__init__.py":
                needed |= self._data(self.modules[text].parent, entry.strings)
        for item in entry.imports:
            base = self._absolute(module, item)
            if f"{base}.{item.name}" in self.modules:
                needed.add(f"{base}.{item.name}")
            elif base in self.modules:
                beside = by_definition and self.modules[base].parent == folder
                part = (beside or base in self._by_definition) and self._defines(base, item.name)
                needed.add(f"{base}:{item.name}" if part else base)
        return needed

    def _absolute(self, module: str, item: Import) -> str:
        """Return the full name of the module that is imported from."""
        if item.level == 0:
            return item.module
        package = module if self.modules[module].name == "__init__.py" else module.rpartition(".")[0]
        for _ in range(item.level - 1):
            package = package.rpartition(".")[0]
        return f"{package}.{item.module}" if item.module else package

    def _data(self, folder: Path, names: Iterable[str]) -> set[str]:
        """Return the named data files in a folder of the package, and those inside named folders."""
        entries = self._entries(folder)
        found: set[str] = set()
        for path in (folder / name for name in names if name.split("/")[0] in entries):
            place = path.relative_to(self.root).as_posix()
            if path.is_file() and path.suffix not in NO_CODE:
                found.add(place)
            elif path.is_dir() and place not in PLUGINS and not (path / "__init__.py").is_file():
                inside = (file for file in path.rglob("*") if file.is_file() and file.suffix not in NO_CODE)
                found |= {file.relative_to(self.root).as_posix() for file in inside}
        return found

    def _entries(self, folder: Path) -> set[str]:
        """Return the names in a folder that are not modules; paths that leave the folder are left out."""
        if folder not in self._listings:
            self._listings[folder] = {path.name for path in folder.iterdir() if path.suffix not in NO_CODE}
        return self._listings[folder]


@cache
def installed() -> Package:
    """Return the package that this module belongs to."""
    return Package(Path(__file__).parent)


def dependencies(*units: str, without: Iterable[str] = ()) -> frozenset[str]:
    """Return units of kanoclip and their dependencies; see `Package.dependencies`."""
    return installed().dependencies(*units, without=without)


def digest(*units: str, without: Iterable[str] = ()) -> str:
    """Return the SHA-256 of the meaning of units of kanoclip and their dependencies; see `Package.digest`."""
    return installed().digest(*units, without=without)


@cache
def command_digest(name: str, *units: str, without: tuple[str, ...] = ()) -> str:
    """Return the SHA-256 of a command of the command line, further units, and all their dependencies.

    Args:
        name: name of the command, e.g. "score-pass".
        units: plugins that it runs with, such as the module of a method.
        without: modules that it imports but does not use.
    """
    return digest(installed().command(name), *units, without=without)


def method_module(name: str) -> str:
    """Return the module that registers a method, as a unit for `command_digest`.

    Raises:
        KeyError: there is no such method.
    """
    return installed().method_module(name)
