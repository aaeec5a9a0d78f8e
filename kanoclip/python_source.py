"""Extract the meaning and the imports of a Python file from its syntax tree, without running it."""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

FILE_LIKE = re.compile(r"[\w.-]*\w[\w.-]*(/[\w.-]+)*", re.ASCII)
RELEASE = "__version__"  # the release number, which changes no result


@dataclass(frozen=True)
class Import:
    """One imported name: `from {level dots}module import name`, or `import module` where name is "".

    Attributes:
        level: number of leading dots.
        module: dotted, without the dots; may be "" after dots.
        name: a module or something in it.
    """

    level: int
    module: str
    name: str


@dataclass(frozen=True)
class Statement:
    """A top-level statement, or one name of a top-level import.

    Attributes:
        defines: the names it binds in the module.
        uses: the names that it reads and the module binds.
        imports: the imports in it, at any depth.
        strings: its string constants that could name a file.
        digest: SHA-256 of its meaning.
    """

    defines: tuple[str, ...]
    uses: tuple[str, ...]
    imports: tuple[Import, ...]
    strings: tuple[str, ...]
    digest: str

    def plain(self) -> dict[str, Any]:
        """Return it as JSON-compatible values."""
        return asdict(self)

    @classmethod
    def of_plain(cls, values: dict[str, Any]) -> "Statement":
        """Return a statement from the values of `plain`, possibly read from JSON."""
        imports = tuple(Import(**entry) for entry in values["imports"])
        defines, uses, strings = (tuple(values[key]) for key in ("defines", "uses", "strings"))
        return cls(defines, uses, imports, strings, values["digest"])


def statements(source: bytes, file: str = "<unknown>") -> list[Statement]:
    """Return the top-level statements of a file that affect its meaning: sorted imports, then the others in order.

    Raises:
        SyntaxError: it is not valid Python; the error names `file`.
    """
    imports, others = [], []
    body = ast.parse(source, file).body
    names = {name for node in body for name in _bound(node)}
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports += [_statement(_with_names(node, [alias]), names) for alias in node.names]
        elif not _is_text(node) and _bound(node) != (RELEASE,):
            others.append(_statement(node, names))
    return sorted(imports, key=lambda statement: statement.digest) + others


def registered(source: bytes, decorator: str, file: str = "<unknown>") -> list[str]:
    """Return the names under which a file registers its classes: the argument of `@decorator("name")`.

    Raises:
        SyntaxError: it is not valid Python, or a name is not written as a literal text; the error names `file`.
    """
    names = []
    for node in ast.walk(ast.parse(source, file)):
        for call in node.decorator_list if isinstance(node, ast.ClassDef) else ():
            if isinstance(call, ast.Call) and _last_name(call.func) == decorator:
                name = call.args[0] if call.args else None
                if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
                    where = (file, call.lineno, call.col_offset, None)
                    raise SyntaxError(f'expected a literal name, as in @{decorator}("name"), found another', where)
                names.append(name.value)
    return names


def _last_name(function: ast.expr) -> str:
    """Return the name of a function, without its module."""
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def quoted_names(text: str) -> set[str]:
    """Return the quoted words of a text that could name a file; for templates, which include others."""
    return {word for word in re.findall(r"""["']([^"'\n]+)["']""", text) if FILE_LIKE.fullmatch(word)}


def meaning(node: Any) -> str:
    """Serialise a syntax tree without positions, docstrings and other standalone strings.

    Empty fields are left out, so that the result is the same for Python versions that add fields.
    """
    if isinstance(node, ast.Constant):
        return repr(node.value)
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields if name not in ("ctx", "type_comment"))
        inside = (f"{name}={meaning(value)}" for name, value in fields if value is not None and value != [])
        return f"{type(node).__name__}({','.join(inside)})"
    if isinstance(node, list):
        return f"[{','.join(meaning(item) for item in node if not _is_text(item))}]"
    return repr(node)


def _is_text(node: Any) -> bool:
    """Return whether a statement is only a string, as a docstring is."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _statement(node: ast.stmt, names: set[str]) -> Statement:
    walked = list(_walk(node))
    texts = {part.value for part in walked if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    return Statement(
        defines=_bound(node),
        uses=tuple(sorted({part.id for part in walked if isinstance(part, ast.Name)} & names)),
        imports=tuple(entry for part in walked for entry in _imports(part)),
        strings=tuple(sorted(text for text in texts if len(text) < 200 and FILE_LIKE.fullmatch(text))),
        digest=hashlib.sha256(meaning(node).encode()).hexdigest(),
    )


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node, except strings that stand alone."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not _is_text(child):
            yield from _walk(child)


def _bound(node: ast.AST) -> tuple[str, ...]:
    """Return the names that a top-level statement binds."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return (node.name,)
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return tuple(alias.asname or alias.name.split(".")[0] for alias in node.names)
    return tuple(part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))


def _imports(node: ast.AST) -> list[Import]:
    if isinstance(node, ast.ImportFrom):
        return [Import(node.level, node.module or "", alias.name) for alias in node.names]
    if isinstance(node, ast.Import):
        return [Import(0, alias.name, "") for alias in node.names]
    return []


def _with_names(node: ast.Import | ast.ImportFrom, names: list[ast.alias]) -> ast.Import | ast.ImportFrom:
    if isinstance(node, ast.Import):
        return ast.Import(names)
    return ast.ImportFrom(node.module, names, node.level)
