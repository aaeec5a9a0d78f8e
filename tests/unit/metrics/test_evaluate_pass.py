"""A pass over many scores files writes the results of each file alone, computes only changes, and can be resumed."""

import re
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scored_files import GRID, SIZE, write_dataset, write_scores

from kanoclip.cli import app
from kanoclip.datasets import masks
from kanoclip.datasets.index import INDEX_COLUMNS, load_mask, write_index
from kanoclip.metrics import evaluate as module
from kanoclip.metrics.evaluate import Evaluation, evaluate, evaluate_pass
from kanoclip.result_store import Store
from kanoclip.types import InputError

# grid, sigma and image size of each file, which can differ between rows of a table
KINDS = {"clip": (GRID, 4.0, SIZE), "sharp": (GRID, 0.0, SIZE), "oracle": (SIZE, 0.0, SIZE), "finer": (12, 2.0, 48)}


@pytest.fixture
def target(tmp_path):
    """Return the folder of an index.csv and four scores files."""
    index = write_dataset(tmp_path)
    for number, (name, (grid, sigma, size)) in enumerate(KINDS.items()):
        generator = np.random.default_rng(number)
        maps, image_score = generator.random((18, grid, grid)), generator.random(18)
        write_scores(index, tmp_path / f"{name}.h5", maps, image_score, sigma)
        with h5py.File(tmp_path / f"{name}.h5", "a") as file:
            file.attrs.update(method=name, image_size=size, seed=number)
    return tmp_path


def evaluations(target, folder, names=tuple(KINDS)):
    return [
        Evaluation(target / f"{name}.h5", target / folder / name / "metrics.csv", target / folder / name / "curves.csv")
        for name in names
    ]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def evaluated(monkeypatch):
    """Record the names of the scores files that are actually evaluated."""
    names = []
    opened = module.open_scores
    monkeypatch.setattr(module, "open_scores", lambda scores, *rest: names.append(scores.stem) or opened(scores, *rest))
    return names


@pytest.mark.parametrize("resolution", [None, 24])
@pytest.mark.parametrize("at_once", [1, 2, 32])
def test_a_pass_writes_the_same_bytes_as_evaluating_each_file_alone(target, monkeypatch, resolution, at_once):
    for one in evaluations(target, "alone"):
        evaluate(one.scores, target / "index.csv", one.metrics, resolution, bootstrap=50)
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    store = Store(target / "store")
    evaluate_pass(evaluations(target, "pass"), target / "index.csv", resolution, bootstrap=50)
    evaluate_pass(evaluations(target, "stored"), target / "index.csv", resolution, bootstrap=50, store=store)
    assert len(contents(target / "alone")) == 2 * len(KINDS)
    assert contents(target / "pass") == contents(target / "stored") == contents(target / "alone")


def test_masks_are_read_once_per_size(target, monkeypatch):
    read = []
    monkeypatch.setattr(masks, "load_mask", lambda path, size: read.append(path) or load_mask(path, size))
    evaluate_pass(evaluations(target, "out", ["clip", "sharp", "oracle"]), target / "index.csv", bootstrap=0)
    listed = pd.read_csv(target / "index.csv", keep_default_na=False)["mask"]
    assert len(read) == len(set(read)) == (listed != "").sum()


def prepared_again(index):
    """Update the digests in the index to the current files."""
    frame = pd.read_csv(index, keep_default_na=False)
    write_index(frame[INDEX_COLUMNS], index)


def test_a_second_pass_evaluates_only_changed_files(target, evaluated):
    def run(**changes):
        evaluated.clear()
        shutil.rmtree(target / "out", ignore_errors=True)
        arguments = {"bootstrap": 20, "store": Store(target / "store"), "code": "a"} | changes
        evaluate_pass(evaluations(target, "out"), target / "index.csv", **arguments)
        return list(evaluated)

    every = list(KINDS)
    assert run() == every
    first = contents(target / "out")
    assert run() == []
    assert contents(target / "out") == first

    with h5py.File(target / "sharp.h5", "a") as file:
        file["image_score"][0] = 2.0
    assert run() == ["sharp"]
    changed = {path for path, text in contents(target / "out").items() if text != first[path]}
    assert changed == {"sharp/metrics.csv", "sharp/curves.csv"}

    assert run(bootstrap=10) == run(resolution=20) == run(code="b") == every
    assert run() == []

    mask = np.array(Image.open(target / "bottle-5_mask.png"))
    Image.fromarray(np.roll(mask, 3)).save(target / "bottle-5_mask.png")
    prepared_again(target / "index.csv")
    assert run() == every
    frame = pd.read_csv(target / "index.csv", keep_default_na=False)
    frame["defect"] = frame["defect"].replace("square", "spot")
    frame.to_csv(target / "index.csv", index=False)
    assert run() == every


def test_a_damaged_result_is_computed_again(target, evaluated):
    todo, store = evaluations(target, "out"), Store(target / "store")
    evaluate_pass(todo, target / "index.csv", bootstrap=0, store=store)
    first = contents(target / "out")
    evaluated.clear()
    todo[0].metrics.write_text("written over by hand")
    evaluate_pass(todo, target / "index.csv", bootstrap=0, store=store)
    assert evaluated == ["clip"]
    assert contents(target / "out") == first


def test_an_interrupted_pass_is_resumed_and_writes_the_same_bytes(target, evaluated, monkeypatch):
    evaluate_pass(evaluations(target, "whole"), target / "index.csv", bootstrap=20)
    todo, store, write = evaluations(target, "out"), Store(target / "store"), module._write

    def interrupted(row, *rest):
        if row.todo == todo[2]:
            raise KeyboardInterrupt
        write(row, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_write", interrupted)
        evaluate_pass(todo, target / "index.csv", bootstrap=20, store=store)
    evaluated.clear()
    evaluate_pass(todo, target / "index.csv", bootstrap=20, store=store)
    assert evaluated == ["oracle", "finer"]
    assert contents(target / "out") == contents(target / "whole")


def break_map(path):
    with h5py.File(path, "a") as file:
        file["map"][17, 0, 0] = 1.5


def break_score(path):
    with h5py.File(path, "a") as file:
        file["image_score"][0] = np.nan


def drop_image(path):
    with h5py.File(path, "a") as file:
        del file["image"]
        file["image"] = ["bottle-0.png"]


BREAKS = [
    (break_map, r"clip\.h5: the map of 'metal nut-8\.png' is not finite and in 0\.\.1; score again"),
    (break_score, r"clip\.h5: the image score of 'bottle-0\.png' is not finite; score again"),
    (drop_image, r"clip\.h5: 1 images, \S+index\.csv lists 18; score again with this index"),
    (
        lambda path: path.write_bytes(b"no HDF5"),
        r"clip\.h5: expected scores written by kanoclip score, found another kind of file .*; score again",
    ),
    (lambda path: path.unlink(), r"clip\.h5: no such scores; make them with `kanoclip score`"),
]


@pytest.mark.parametrize(("damage", "message"), BREAKS)
@pytest.mark.parametrize("stored", [False, True])
def test_a_wrong_file_is_reported_after_the_others_are_done(target, damage, message, stored):
    evaluate_pass(evaluations(target, "expected", ["sharp", "oracle", "finer"]), target / "index.csv", bootstrap=20)
    damage(target / "clip.h5")
    store = Store(target / "store") if stored else None
    with pytest.raises(InputError, match=message) as caught:
        evaluate_pass(evaluations(target, "out"), target / "index.csv", bootstrap=20, store=store)
    assert "\n" not in str(caught.value)
    assert contents(target / "out") == contents(target / "expected")


def test_the_error_names_every_wrong_file(target):
    break_map(target / "clip.h5")
    break_map(target / "finer.h5")
    with pytest.raises(InputError, match=r"clip\.h5: the map .* score again; .*finer\.h5: the map .* score again"):
        evaluate_pass(evaluations(target, "out"), target / "index.csv", bootstrap=0)
    assert {path.split("/")[0] for path in contents(target / "out")} == {"sharp", "oracle"}


@pytest.mark.parametrize("stored", [False, True])
def test_the_error_names_a_missing_mask(target, stored):
    (target / "bottle-5_mask.png").unlink()
    with pytest.raises(InputError, match=re.escape(f"{target}/bottle-5_mask.png: no such image")):
        evaluate_pass(
            evaluations(target, "out"), target / "index.csv", store=Store(target / "store") if stored else None
        )


def test_classes_whose_rows_are_not_contiguous_in_the_index_are_evaluated(target):
    evaluate_pass(evaluations(target, "sorted", ["clip"]), target / "index.csv", bootstrap=20)
    order = np.random.default_rng(0).permutation(18)
    frame = pd.read_csv(target / "index.csv", keep_default_na=False)
    frame.iloc[order].to_csv(target / "index.csv", index=False)
    with h5py.File(target / "clip.h5", "a") as file:
        for name in ("image", "class_name", "map", "image_score"):
            file[name][...] = file[name][:][order]
    evaluate_pass(evaluations(target, "mixed", ["clip"]), target / "index.csv", bootstrap=20)
    first, second = (pd.read_csv(target / folder / "clip" / "metrics.csv") for folder in ("sorted", "mixed"))
    pd.testing.assert_frame_equal(first, second, rtol=1e-9)


def test_the_command_evaluates_several_folders(target):
    names = ["clip", "oracle"]
    for name in names:
        (target / "run" / name).mkdir(parents=True)
        shutil.copy(target / f"{name}.h5", target / "run" / name / "scores.h5")
    folders = [str(target / "run" / name) for name in names]
    arguments = [*folders, "--index", str(target / "index.csv"), "--bootstrap", "20", "--store", str(target / "store")]
    app(["evaluate", *arguments], standalone_mode=False)
    evaluate_pass(evaluations(target, "expected", names), target / "index.csv", bootstrap=20)
    found = {name: text for name, text in contents(target / "run").items() if not name.endswith(".h5")}
    assert found == contents(target / "expected")
    assert len(list((target / "store" / "kept").iterdir())) == 2
