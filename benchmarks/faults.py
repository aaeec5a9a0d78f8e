"""Count the outcomes of hostile inputs: refused in one line, traceback, silently wrong, or accepted correctly.

PYTHONPATH=. python benchmarks/faults.py

The inputs are damaged copies of every file of a run, names that are commands, values of wrong types, broken archives
and invalid answers of endpoints. An input is accepted correctly if its content equals the undamaged original.
"""

import argparse
import gzip
import io
import json
import random
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / "hostile"), str(TESTS / "unit" / "knowledge")]

from knowledge_server import Answer, ChatServer, says  # noqa: E402
from made import Made, make  # noqa: E402
from test_readers import SEALED, damaged  # noqa: E402

from kanoclip.cli.options import parse_json, parse_options  # noqa: E402
from kanoclip.config import Configuration, LlmConfig, parse  # noqa: E402
from kanoclip.datasets.archives import unpack  # noqa: E402
from kanoclip.knowledge.chat import Chat, Reply  # noqa: E402
from kanoclip.knowledge.jsonl import read_descriptions  # noqa: E402
from kanoclip.metrics.evaluate import evaluate  # noqa: E402
from kanoclip.report.metrics import read_metrics  # noqa: E402
from kanoclip.types import InputError  # noqa: E402

REFUSED, TRACEBACK, WRONG, RIGHT = "refused in one line", "traceback", "silently wrong", "accepted correctly"
Case = tuple[str, Callable[[], bool]]  # a group, and an attempt that returns whether the accepted content is right


def main() -> None:
    """Try all inputs and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=20, help="damaged copies of a file per kind of damage")
    args = parser.parse_args()
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder, ChatServer() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        made = make(Path(folder) / "made")
        for group, attempt in cases(made, Path(folder), server, args.copies):
            counts.setdefault(group, Counter())[outcome(group, attempt)] += 1
        server.shutdown()
    kinds = (REFUSED, TRACEBACK, WRONG, RIGHT)
    print(f"{'input':28}" + "".join(f"{kind:>22}" for kind in kinds))
    for group, counted in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        print(f"{group:28}" + "".join(f"{counted[kind]:22}" for kind in kinds))


def outcome(group: str, attempt: Callable[[], bool]) -> str:
    """Try an input and return its outcome."""
    try:
        right = attempt()
        if not right and group in ("values", "options", "archives", "answers of endpoints"):
            print(f"{group}: accepted: {attempt.__defaults__}", file=sys.stderr)
        return RIGHT if right else WRONG
    except InputError as error:
        return TRACEBACK if "\n" in str(error) else REFUSED
    except Exception as error:  # noqa: BLE001 - what a user would see as a traceback
        print(f"{group}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
        return TRACEBACK


def cases(made: Made, folder: Path, server: ChatServer, copies: int) -> Iterator[Case]:
    """Yield every case, group by group."""
    yield from damaged_files(made, folder, copies)
    yield from names()
    yield from values()
    yield from archives(folder, copies)
    yield from answers(server)


def damaged_files(made: Made, folder: Path, copies: int) -> Iterator[Case]:
    """Yield copies of each file of a run with flipped bits, missing pages or ends, and noise."""
    numbers = random.Random(0)

    def index_is_noticed(path: Path) -> bool:
        evaluate(made.scores, path, folder / "metrics.csv", bootstrap=10)
        return (folder / "metrics.csv").read_bytes() == made.metrics.read_bytes()

    def same(read: Callable[[Path], object], original: Path) -> Callable[[Path], bool]:
        return lambda path: str(read(path)) == str(read(original))

    readers: dict[str, Callable[[Path], bool]] = {
        **{
            name: lambda path, read=read, name=name: read(path, made) == read(getattr(made, name), made)
            for name, read in SEALED.items()
        },
        "index": index_is_noticed,
        "knowledge": same(read_descriptions, made.knowledge),
        "metrics": same(lambda path: read_metrics(path).to_csv(), made.metrics),
    }
    for name, accepted in readers.items():
        original: Path = getattr(made, name)
        for kind in ("bit", "page", "cut", "noise"):
            for _ in range(copies):
                content = damaged(original.read_bytes(), kind, numbers.random(), numbers.randrange(2**16))
                path = original.with_name(f"damaged-{original.name}")  # the index names its images from here

                def attempt(path: Path = path, content: bytes = content, accepted: Callable = accepted) -> bool:
                    path.write_bytes(content)
                    return accepted(path)

                yield f"{original.name}", attempt


def names() -> Iterator[Case]:
    """Yield names that are commands, paths, patterns or markup, for every kind of name."""
    for name in json.loads((TESTS / "hostile" / "names.json").read_text(encoding="utf-8")):
        for place in ("row", "backbone", "dataset", "ablation", "ablation row", "auxiliary", "target"):
            values = {
                "targets": [name if place == "target" else "visa"],
                "methods": {name if place == "row" else "clip": None},
                "backbones": {name if place == "backbone" else "clip-l14-518": {}},
                "datasets": {name: {"path": "x"}} if place == "dataset" else {},
                "ablations": {name: {"clip": None}}
                if place == "ablation"
                else ({"a": {name: {"method": "clip"}}} if place == "ablation row" else {}),
                "auxiliary": name if place == "auxiliary" else "mvtec_ad",
            }
            yield "names", lambda values=values: bool(parse(Configuration, values, "configuration")) and False


def values() -> Iterator[Case]:
    """Yield invalid values of a configuration and of options."""
    wrong: list[dict[str, object]] = [
        {"seeds": [1, 1]}, {"seeds": []}, {"seeds": [2**64]}, {"seeds": [-1]}, {"seeds": [1.5]}, {"seeds": "x"},
        {"targets": ["visa", "visa"]}, {"targets": []}, {"targets": "visa"}, {"targets": [1]}, {"targets": None},
        {"methods": {}}, {"methods": []}, {"methods": {"clip": 1}}, {"ablations": []}, {"ablations": {"a": 1}},
        {"resources": "a{b}"}, {"resources": ""}, {"resources": "a\nb"}, {"run": "../x"}, {"run": ""}, {"run": 1},
        {"datasets": {"a": {"class_names": {"x": "mean"}}}}, {"datasets": {"a": {"class_names": {"x": ""}}}},
        {"evaluation": {"bootstrap": -1}}, {"evaluation": {"resolution": float("nan")}}, {"cache": ["all"]},
        {"knowledge": {"llm": {"timeout": float("inf")}}}, {"knowledge": {"sources": []}}, {"x": 1},
        {"backbones": {"a": {"image_size": 10**400}}}, {"backbones": {"a": {"taps": [2, 1]}}},
    ]  # fmt: skip
    for value in wrong:
        whole = {"targets": ["visa"], "methods": {"clip": None}, **value}
        yield "values", lambda whole=whole: bool(parse(Configuration, whole, "configuration")) and False
    for text in ("x", "=1", "a=[", "a={", "a=\x00", "a=" + "[" * 5000, "a=!!python/object:os.system x", "a=*b", "a=@"):
        yield "options", lambda text=text: bool(parse_options([text])) and False
    for text in ("", "[", "[1]", "1", "nul", "[" * 100_000, '{"a":', "\x00", "{'a': 1}"):
        yield "options", lambda text=text: bool(parse_json(text, "--row")) and False


def archives(folder: Path, copies: int) -> Iterator[Case]:
    """Yield archives with flipped bits, links and bombs."""
    content = np.random.default_rng(0).bytes(20_000)
    kinds = {"tar.gz": io.BytesIO(), "tar.xz": io.BytesIO(), "tar.bz2": io.BytesIO(), "zip": io.BytesIO()}
    for kind, buffer in kinds.items():
        if kind == "zip":
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
                file.writestr("a.bin", content)
        else:
            with tarfile.open(fileobj=buffer, mode=f"w:{kind[4:]}") as tar:
                entry = tarfile.TarInfo("a.bin")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    numbers = random.Random(1)
    for kind, buffer in kinds.items():
        for damage in ("bit", "cut"):
            for _ in range(copies // 2):
                spoiled = damaged(buffer.getvalue(), damage, numbers.random(), numbers.randrange(2**16))

                def attempt(kind: str = kind, spoiled: bytes = spoiled) -> bool:
                    archive = folder / f"archive.{kind}"
                    archive.write_bytes(spoiled)
                    unpack(archive, folder / "unpacked")
                    found = [path for path in (folder / "unpacked").rglob("*") if path.is_file()]
                    return len(found) == 1 and found[0].read_bytes() == content

                yield "archives", attempt

    def bomb(kind: str) -> bool:
        archive = folder / f"bomb.{kind}"
        if kind == "zip":
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
                file.writestr("a.bin", bytes(10**7))
        else:
            with gzip.open(archive, "wb", 1) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
                entry = tarfile.TarInfo("a.bin")
                entry.size = 10**7
                tar.addfile(entry, io.BytesIO(bytes(10**7)))
        unpack(archive, folder / "unpacked", largest=10**6)
        return False

    for kind in ("zip", "tar.gz"):
        yield "archives", lambda kind=kind: bomb(kind)


def answers(server: ChatServer) -> Iterator[Case]:
    """Yield answers of an endpoint, which must be reported as unreadable or read without broken characters."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A crack."}}
    bodies: list[object] = [
        "x", 1, None, [], [1], {}, {"choices": "x"}, {"choices": {}}, {"choices": ["x"]}, {"choices": [None]},
        {"choices": [{"message": "x"}]}, {"choices": [{"message": ["x"]}]}, {"choices": [{"message": {"content": 1}}]},
        {"choices": [{"message": {"content": ["x"]}}]}, {"choices": [{"message": {"content": {"a": 1}}}]},
        {"choices": [choice], "usage": "x"}, {"choices": [choice], "usage": {"prompt_tokens": "x"}},
        {"choices": [choice], "usage": [1]}, {"choices": [{**choice, "finish_reason": {}}]},
        {"choices": [{"message": {"content": "half \ud800 a pair"}}]},
        {"choices": [{"message": {"content": "x" * 44_000_000}}]},
        {"choices": [{"message": {"content": "\n" * 900_000}}]},
    ]  # fmt: skip
    raw = [
        b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b"NaN", bytes(1000), says("fine").body[:-3],
    ]  # fmt: skip
    sent = [Answer(json.dumps(body).encode()) for body in bodies] + [Answer(body) for body in raw]
    packed = gzip.compress(b" " * 10**8 + says("x").body, 1)
    sent.append(Answer(packed, headers={"Content-Encoding": "gzip"}))

    def attempt(answer: Answer) -> bool:
        server.script = [answer]
        reply = Chat(LlmConfig(base_url=server.url, key_variable=None, retries=0, timeout=5)).ask([])
        reply.text.encode("utf-8")
        return not reply.readable or isinstance(reply, Reply) and len(reply.text) <= 20_000

    for answer in sent:
        yield "answers of endpoints", lambda answer=answer: attempt(answer)


if __name__ == "__main__":
    main()
