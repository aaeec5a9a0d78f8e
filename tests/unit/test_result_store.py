"""The store returns complete results or none, despite kills, damage and concurrent processes."""

import errno
import json
import multiprocessing
import os
import random
import signal
import time
from itertools import count
from pathlib import Path

import pytest

from kanoclip.result_store import Store, fingerprint

PROCESSES = multiprocessing.get_context("fork")  # starts in milliseconds; the child processes use no torch


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def put(store, key="key", **texts):
    """Store a result that consists of text files."""
    folder = store.partial(key)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    store.keep(key, {name: folder / f"{name}.txt" for name in texts})


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_fingerprint_depends_on_every_part_and_not_on_its_order():
    parts = {"seed": 1, "options": {"width": 64, "taps": [1, 2]}, "code": "abc", "missing": None}
    same = {"missing": None, "code": "abc", "options": {"taps": (1, 2), "width": 64}, "seed": 1}
    assert fingerprint(**parts) == fingerprint(**same)
    changed = [{"seed": 2}, {"options": {"width": 64, "taps": [2, 1]}}, {"code": "abd"}, {"missing": ""}, {"more": 0}]
    assert len({fingerprint(**parts | change) for change in [{}, *changed]}) == 1 + len(changed)


@pytest.mark.parametrize(
    ("part", "error"), [(Path("somewhere"), TypeError), ({1}, TypeError), (float("nan"), ValueError)]
)
def test_values_that_json_cannot_write_have_no_fingerprint(part, error):
    with pytest.raises(error):
        fingerprint(part=part)


def test_a_stored_result_is_linked_to_its_output(store, tmp_path):
    outputs = {"metrics": tmp_path / "row" / "metrics.csv", "curves": tmp_path / "row" / "curves.csv"}
    assert not store.fetch("key", outputs)
    assert not (tmp_path / "row" / "metrics.csv").exists()
    put(store, metrics="1", curves="2")
    started = time.time()
    (tmp_path / "row").mkdir(exist_ok=True)
    outputs["metrics"].write_text("an older result")
    assert store.fetch("key", outputs)
    assert [path.read_text() for path in outputs.values()] == ["1", "2"]
    assert all(path.stat().st_nlink == 2 and path.stat().st_mtime > started - 1 for path in outputs.values())
    assert files_below(tmp_path / "row") == ["curves.csv", "metrics.csv"]
    assert not store.fetch("another key", outputs)


def test_fetched_outputs_are_newer_than_files_written_before(store, tmp_path):
    put(store, scores="1")
    assert store.fetch("key", {"scores": tmp_path / "scores"})
    os.utime(tmp_path / "scores", (1, 1))
    (tmp_path / "input").write_text("")
    assert store.fetch("key", {"scores": tmp_path / "scores"})
    assert (tmp_path / "scores").stat().st_mtime_ns >= (tmp_path / "input").stat().st_mtime_ns


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM])
def test_files_are_copied_where_the_file_system_cannot_link(store, tmp_path, monkeypatch, code):
    def no_link(source, target):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.link", no_link)
    put(store, scores="1")
    assert store.fetch("key", {"scores": tmp_path / "scores"})
    assert (tmp_path / "scores").read_text() == "1"
    assert (tmp_path / "scores").stat().st_nlink == 1


def overwrite_output(store, output):
    output.write_text("changed through the link")


def truncate_kept(store, output):
    os.truncate(store.folder / "kept" / "key" / "scores", 1)


def break_manifest(store, output):
    (store.folder / "kept" / "key" / "manifest.json").write_text("{")


@pytest.mark.parametrize("damage", [overwrite_output, truncate_kept, break_manifest])
def test_a_damaged_result_is_reported_removed_and_can_be_stored_again(store, tmp_path, caplog, damage):
    put(store, scores="right", log="1")
    assert store.fetch("key", {"scores": tmp_path / "scores"})
    damage(store, tmp_path / "scores")
    again = {"log": tmp_path / "again" / "log", "scores": tmp_path / "again" / "scores"}
    assert not store.fetch("key", again)
    assert not any(path.exists() for path in again.values())
    assert len(caplog.records) == 1
    assert "was changed since it was kept; computing it again" in caplog.text
    assert files_below(store.folder) == ["lock"]
    put(store, scores="right", log="1")
    assert store.fetch("key", again)
    assert (tmp_path / "again" / "scores").read_text() == "right"


def test_a_missing_file_is_a_miss_and_is_replaced(store, tmp_path):
    put(store, scores="right")
    (store.folder / "kept" / "key" / "scores").unlink()
    assert not store.fetch("key", {"scores": tmp_path / "scores"})
    put(store, scores="right")
    assert store.fetch("key", {"scores": tmp_path / "scores"})


def test_a_result_without_a_requested_file_is_a_miss_and_is_replaced(store, tmp_path):
    put(store, scores="old")
    outputs = {"scores": tmp_path / "scores", "log": tmp_path / "log"}
    assert not store.fetch("key", outputs)
    put(store, scores="new", log="1")
    assert store.fetch("key", outputs)
    assert (tmp_path / "scores").read_text() == "new"


def test_an_intact_result_is_not_replaced(store, tmp_path):
    put(store, scores="first")
    put(store, scores="second")
    assert store.fetch("key", {"scores": tmp_path / "scores"})
    assert (tmp_path / "scores").read_text() == "first"
    assert files_below(store.folder) == ["kept/key/manifest.json", "kept/key/scores", "lock"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "manifest.json"])
def test_an_invalid_file_name_is_refused(store, tmp_path, name):
    (tmp_path / "file").write_text("1")
    with pytest.raises(ValueError, match="cannot name a file in a store"):
        store.keep("key", {name: tmp_path / "file"})


def test_a_result_with_a_missing_file_is_not_stored_and_the_work_is_kept(store, tmp_path):
    (store.partial("key") / "state").write_text("half")
    with pytest.raises(FileNotFoundError):
        store.keep("key", {"scores": tmp_path / "missing"})
    assert not store.fetch("key", {"scores": tmp_path / "scores"})
    assert (store.partial("key") / "state").read_text() == "half"


def test_unfinished_work_is_resumed_by_the_next_process_but_not_taken_from_a_running_one(store):
    (store.partial("key") / "state").write_text("half")
    assert (store.partial("key") / "state").exists()
    rival = Store(store.folder)
    assert rival.partial("key") != store.partial("key")
    assert store.partial("other").parent != store.partial("key").parent
    folder = store.partial("key")
    store._claims.clear()  # as at the end of a process
    later = Store(store.folder)
    assert later.partial("key") == folder
    assert (folder / "state").read_text() == "half"


def test_unfinished_work_survives_a_kill(store):
    def work(ready):
        (store.partial("key") / "state").write_text("half")
        ready.set()
        time.sleep(60)

    ready = PROCESSES.Event()
    child = PROCESSES.Process(target=work, args=(ready,))
    child.start()
    assert ready.wait(10)
    rival = Store(store.folder)
    assert not (rival.partial("key") / "state").exists()
    child.kill()
    child.join()
    assert (store.partial("key") / "state").read_text() == "half"


def whole_texts(key):
    """Return two long files that contain the key they belong to."""
    return {name: f"{name} of {key}\n" * 20_000 for name in ("scores", "log")}


def keep_and_fetch(folder, out, keys):
    store = Store(folder)
    for key in keys:
        outputs = {name: out / key / name for name in ("scores", "log")}
        if not store.fetch(key, outputs):
            put(store, key, **whole_texts(key))
            assert store.fetch(key, outputs)
            assert store.fetch(key, outputs)


def test_a_store_killed_at_any_moment_returns_only_complete_results(store, tmp_path):
    chance, out, finished = random.Random(0), tmp_path / "out", 0
    for number in range(20):
        keys = (f"{number}-{i}" for i in count())
        child = PROCESSES.Process(target=keep_and_fetch, args=(store.folder, out, keys))
        child.start()
        while not any((store.folder / "kept").glob(f"{number}-*")):  # it is working, however busy the machine is
            assert child.is_alive()
            time.sleep(0.001)
        time.sleep(chance.random() / 20)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        for path in out.glob("*/[a-z]*"):
            assert path.read_text() == whole_texts(path.parent.name)[path.name]
        for entry in (store.folder / "kept").iterdir():
            assert sorted(json.loads((entry / "manifest.json").read_text())) == ["log", "scores"]
            outputs = {name: tmp_path / "mine" / name for name in ("scores", "log")}
            assert store.fetch(entry.name, outputs)
            assert {name: path.read_text() for name, path in outputs.items()} == whole_texts(entry.name)
            finished += 1
    assert finished >= 20
    keep_and_fetch(store.folder, out, [path.name.partition(".")[0] for path in (store.folder / "partial").iterdir()])
    store.sweep()
    assert files_below(store.folder / "partial") == files_below(store.folder / "trash") == []


def test_two_processes_can_store_the_same_results(store, tmp_path):
    names, keys = ("scores", "log"), [f"key{i}" for i in range(40)]

    def work(who, start):
        mine = Store(store.folder)
        start.wait()
        for key in keys:
            outputs = {name: tmp_path / who / key / name for name in names}
            put(mine, key, **dict.fromkeys(names, who * 10_000))
            assert mine.fetch(key, outputs)

    start = PROCESSES.Barrier(2)
    children = [PROCESSES.Process(target=work, args=(who, start)) for who in "ab"]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    for key in keys:
        texts = {(tmp_path / who / key / name).read_text() for who in "ab" for name in names}
        assert texts in ({"a" * 10_000}, {"b" * 10_000})  # all outputs are one of the two results
    assert files_below(store.folder / "partial") == files_below(store.folder / "trash") == []


def make_old(folder, days=8):
    for path in [*folder.rglob("*")]:
        os.utime(path, (time.time() - days * 86_400,) * 2)


def test_sweep_deletes_old_results_without_links(store, tmp_path):
    for key in ("linked", "unlinked", "fresh"):
        put(store, key, scores=key)
        assert store.fetch(key, {"scores": tmp_path / key})
    (tmp_path / "unlinked").unlink()
    (tmp_path / "fresh").unlink()
    make_old(store.folder)
    os.utime(store.folder / "kept" / "fresh" / "manifest.json")
    store.sweep(days=7)
    assert {path.name for path in (store.folder / "kept").iterdir()} == {"linked", "fresh"}


def test_sweep_deletes_only_the_work_of_dead_processes(store):
    for key in ("mine", "old", "recent", "finished"):
        (store.partial(key) / "state").write_text("half")
    for key in ("old", "recent", "finished"):
        store._claims.pop(key)
    put(Store(store.folder), "finished", scores="1")
    (store.partial("finished") / "state").write_text("half")  # killed after the result was stored
    store._claims.pop("finished")
    for key in ("mine", "old"):
        make_old(store.folder / "partial" / key)
    (store.folder / "trash" / "grave").mkdir(parents=True, exist_ok=True)
    store.sweep(days=7)
    assert {path.name for path in (store.folder / "partial").iterdir()} == {"mine", "recent"}
    assert files_below(store.folder / "trash") == []
    assert (store.partial("recent") / "state").read_text() == "half"
