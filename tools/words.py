"""Find wording that CONTRIBUTING's style section rules out and a program can find: `python tools/words.py [PATH ...]`.

The check reads comments and strings of Python files (only comments and docstrings of tests, whose strings are data),
the prose of Markdown without code, and whole lines of YAML, reStructuredText, Snakemake and make files. In Markdown,
it skips everything between `<!-- words: off -->` and `<!-- words: on -->`.
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

GAP = r"(?:[^\S\n]+|[^\S\n]*\n[^\S\n]*)"  # between two words: at most one line break
NOUNS = (
    "images|pixels|patches|classes|rows|columns|lines|files|bytes|jobs|steps|seconds|minutes|hours|epochs|"
    "prompts|texts|words|sentences|tokens|taps|values|seeds|tables|embeddings|modules|operations"
)
UNITS = (
    "image|pixel|patch|class|row|column|line|file|job|step|epoch|dataset|target|backbone|method|seed|forward|side|tap|"
    "batch|polarity|stage|level|channel|layer|block|token|prompt|run|pass|table|figure|metric|fold|process|GPU|node"
)
NUMBERS = "one|two|three|four|five|six|eight|ten|twelve"
NOT_NOUNS = "and|or|is|in|if|at|as|of|on|are|over|into|onto|also|all|it|its|among|against|above|after|equals|exceeds"
COUNTED = rf"(?:{NOUNS}|(?:{NUMBERS}){GAP}(?!(?:in|of|to|as|for)\b)[a-z-]+(?<!s))"
CLAUSE = rf"{GAP}(?:may|can|must|has|holds|marks|shows)\b"  # "the pixels a mask marks"

RULES = {
    rf"(?i)\b{COUNTED}{GAP}an?{GAP}(?:{UNITS})\b(?!{CLAUSE})": "write 'per', or what is meant",
    rf"\b[Aa]{GAP}(?!(?:{NOT_NOUNS}|one|once|eu[a-z]*|one-[a-z-]+)\b)[aeio][a-z]+": "write 'an'",
    rf"\b[Aa]n{GAP}[bcdfgjklmnpqrstvwyz][a-z]{{3,}}": "write 'a'",
    rf"(?i)\b(?:likewise|whoever|hitherto|thereof|whence|thus{GAP}far|so{GAP}many)\b": "say it in plain words",
    r"(?i)\bimages at once\b": "write 'images per forward pass', or per what",
    rf"(?i)\bgo(?:es)?{GAP}on{GAP}(?:where|after)\b": "write 'resume'",
    rf"(?i)\b(?:file|folder){GAP}to{GAP}appear\b": "write 'to write'",
    r"(?i)\bwished\b": "write 'target'",
    r"(?i)\banew\b": "write 'again'",
    rf"(?i)\bbut{GAP}for\b": "write 'except for'",
    rf"(?i)(?<!there )\b(?:is|are|was|were){GAP}no{GAP}(?!(?:longer|more|[a-z]+er)\b)[a-z]+": "write 'is not a'",
    rf"(?i)\bto{GAP}be{GAP}seen\b": "write 'visible'",
    rf"(?i)\b(?:tells?|told){GAP}(?:(?:it|them){GAP})?apart\b": "write 'distinguish'",
    rf"(?i)\b(?:is|are|was|were){GAP}told\b(?!{GAP}(?:apart|to)\b)": "write 'is reported'",
    rf"(?i)\bof{GAP}then\b": "write 'earlier', or the date",
    rf"(?i)\bmethods?{GAP}without{GAP}training\b": "write 'training-free'",
    r"(?m)^[^\S\n]+[a-z_]+: of\b": "say of what: 'seed: seed of the batch'",
    rf"(?i)\bfrom{GAP}nothing\b": "write 'from scratch'",
    rf"(?i)\bagrees?{GAP}in{GAP}every{GAP}byte\b": "write 'byte-identical'",
    rf"(?i)\b(?:nothing{GAP}is{GAP}worth|ties{GAP}are{GAP}ties|the{GAP}long{GAP}truth|ranks?{GAP}alike)\b": "say what",
}
CODE = "\0"  # replaces characters of code, so that words on both sides do not count as neighbours
EMPTY = {"likewise", "as above", "the same", "ditto", "see above"}  # as a whole docstring
SUFFIXES = {".py", ".md", ".yaml", ".yml", ".smk", ".rst"}
NAMES = {"Snakefile", "Makefile", "Dockerfile"}
SKIPPED = {"tools/words.py", "tests/unit/test_words.py", "docs/reference/commands.md"}
FOLDERS = {"site", "results", "build"}  # outputs at the top of the project; hidden folders are skipped too


def main(arguments: list[str]) -> int:
    """Print the findings in the given files, or in all files of the current folder, and return their number."""
    count = 0
    for path in map(Path, arguments) if arguments else files(Path()):
        if path.as_posix() in SKIPPED:
            continue
        for line, words, advice in findings(path.as_posix(), path.read_text(encoding="utf-8")):
            print(f"{path}:{line}: '{words}': {advice}")
            count += 1
    return count


def files(root: Path) -> Iterator[Path]:
    """Yield the files of the project that contain prose, sorted."""
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and path.as_posix() not in FOLDERS:
            yield from files(path)
        elif path.is_file() and (path.suffix in SUFFIXES or path.name in NAMES):
            yield path


def findings(name: str, text: str) -> list[tuple[int, str, str]]:
    """Return (line, words, advice) of each finding, in order.

    Args:
        name: path of the file relative to the root of the project, which determines the parts to read.
        text: its content.
    """
    found = []
    if name.endswith(".py"):
        prose = of_python(text, all_strings=not name.startswith("tests/"))
        for line, string in docstrings(text):
            if string.strip(" .\n").lower() in EMPTY:
                found.append((line, string.strip(), "say it again; a docstring is read alone"))
    else:
        prose = of_markdown(text) if name.endswith(".md") else re.sub(r"(?m)^(\s*)#", r"\1 ", text)
    for pattern, advice in RULES.items():
        for match in re.finditer(pattern, prose):
            found.append((prose.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), advice))
    return sorted(found)


def of_python(text: str, all_strings: bool) -> str:
    """Return the text with comments and strings, or docstrings only, in place; other characters become CODE."""
    prose = [re.sub(r"\S", CODE, line) for line in text.splitlines(keepends=True)]
    for token in tokens(text):
        if not (all_strings or token.string.startswith(("#", '"""'))):
            continue
        for at, part in enumerate(token.string.split("\n")):
            row, column = token.start[0] - 1 + at, token.start[1] if at == 0 else 0
            clean = re.sub(r"""^(#+|[rRbBfFuU]{0,2}(\"\"\"|'''|"|'))|(\"\"\"|'''|"|')$|`[^`]*`""", blank, part)
            prose[row] = prose[row][:column] + clean + prose[row][column + len(part) :]
    return "".join(prose)


def docstrings(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the content of each string in triple quotes."""
    for token in tokens(text):
        if token.string.startswith('"""'):
            yield token.start[0], token.string[3:-3]


def tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    """Yield comments and strings; from Python 3.12 on, the middle parts of formatted strings are separate tokens."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    return (token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type in kinds)


def of_markdown(text: str) -> str:
    """Return the text with blanks for code, formulas and parts that are switched off."""
    return re.sub(r"(?ms)^```.*?^```|^\$\$.*?^\$\$|<!-- words: off -->.*?<!-- words: on -->|`[^`\n]*`", blank, text)


def blank(match: re.Match[str]) -> str:
    """Return as many blanks as matched characters, with the same line breaks."""
    return re.sub(r"[^\n]", " ", match[0])


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
