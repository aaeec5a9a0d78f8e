"""Whatever its bytes, a file is read as it was written or refused in one line (hypothesis, with fixed seeds)."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import Made, make

from kanoclip.checkpoints import read_record
from kanoclip.cli.options import parse_json, parse_options
from kanoclip.config import BackboneConfig, Configuration, parse
from kanoclip.datasets.index import read_index
from kanoclip.features import FeatureCache
from kanoclip.knowledge.jsonl import read_descriptions
from kanoclip.metrics.scores_file import scored_index
from kanoclip.report.metrics import read_metrics
from kanoclip.run import read_run
from kanoclip.types import InputError

FEW = settings(
    max_examples=40, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


def features_of(path: Path, made: Made) -> list[bytes]:
    frame = read_index(made.index)
    cache = FeatureCache(path, frame)
    read = cache.read(range(len(frame)), cache.taps)
    return [str(sorted(read)).encode(), *(read[tap].numpy().tobytes() for tap in sorted(read))]


def scores_of(path: Path, made: Made) -> list[bytes]:
    with scored_index(path, made.index) as (_, file):
        told = json.dumps({name: str(value) for name, value in file.attrs.items()}, sort_keys=True)
        return [told.encode(), file["image_score"][:].tobytes(), file["map"][:].tobytes()]


def checkpoint_of(path: Path, made: Made) -> list[bytes]:
    return [json.dumps(read_record(path), sort_keys=True).encode()]


def metrics_of(path: Path, made: Made) -> list[bytes]:
    return [read_metrics(path).to_csv().encode()]


SEALED: dict[str, Callable[[Path, Made], list[bytes]]] = {
    "features": features_of,
    "scores": scores_of,
    "checkpoint": checkpoint_of,
    "metrics": metrics_of,
}


def damaged(content: bytes, kind: str, where: float, seed: int) -> bytes:
    """Return a copy with one kind of damage at a relative position from 0 to 1."""
    place, copy = int(where * (len(content) - 1)), bytearray(content)
    if kind == "bit":
        copy[place] ^= 1 << seed % 8
    elif kind == "page":
        start = place // 4096 * 4096
        copy[start : start + 4096] = bytes(len(copy[start : start + 4096]))
    elif kind == "cut":
        del copy[place:]
    else:
        noise = np.random.default_rng(seed).bytes(min(64, len(copy) - place))
        copy[place : place + len(noise)] = noise
    return bytes(copy)


@pytest.mark.parametrize("name", SEALED)
@FEW
@given(
    kind=st.sampled_from(["bit", "page", "cut", "noise"]),
    where=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**16),
)
def test_a_damaged_file_is_refused_or_read_unchanged(
    made: Made, tmp_path: Path, name: str, kind: str, where: float, seed: int
) -> None:
    original: Path = getattr(made, name)
    path = tmp_path / original.name
    path.write_bytes(damaged(original.read_bytes(), kind, where, seed))
    try:
        found = SEALED[name](path, made)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert found == SEALED[name](original, made)


@FEW
@given(
    kind=st.sampled_from(["bit", "page", "cut", "noise"]),
    where=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**16),
)
def test_a_damaged_knowledge_base_is_refused_or_lacks_its_last_lines(
    made: Made, tmp_path: Path, kind: str, where: float, seed: int
) -> None:
    path = tmp_path / "knowledge.jsonl"
    path.write_bytes(damaged(made.knowledge.read_bytes(), kind, where, seed))
    original = read_descriptions(made.knowledge)
    try:
        found = read_descriptions(path)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert found == original if kind != "cut" else found == original[: len(found)]


READERS: dict[str, Callable[[Path], object]] = {
    "index.csv": read_index,
    "knowledge.jsonl": read_descriptions,
    "metrics.csv": read_metrics,
    "protocol.json": read_run,
    "checkpoint.safetensors": read_record,
}


@pytest.mark.parametrize("name", READERS)
@FEW
@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    if name == "knowledge.jsonl" and not content.strip(b"\n"):
        return
    with pytest.raises(InputError) as caught:
        READERS[name](path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["index", "knowledge", "metrics"])
@FEW
@given(where=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 2**16))
def test_random_text_is_read_as_rows_or_refused_in_one_line(
    made: Made, tmp_path: Path, name: str, where: float, seed: int
) -> None:
    original: Path = getattr(made, name)
    path = tmp_path / original.name
    path.write_bytes(damaged(original.read_bytes(), "noise", where, seed))
    try:
        assert len(READERS[original.name](path))
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@FEW
@given(key=st.sampled_from(list(Configuration.model_fields)), value=JSON)
def test_configurations_of_any_type_are_read_or_refused_in_one_line(key: str, value: object) -> None:
    values = {"targets": ["visa"], "methods": {"clip": None}, key: value}
    try:
        parse(Configuration, values, "configuration")
    except InputError as error:
        assert "\n" not in str(error)


@FEW
@given(value=st.text(max_size=30))
def test_options_with_any_text_are_read_or_refused_in_one_line(value: str) -> None:
    for read in (
        lambda: parse(BackboneConfig, parse_options([f"model={value}"]), "--set"),
        lambda: parse_json(value, "x"),
    ):
        try:
            read()
        except InputError as error:
            assert "\n" not in str(error)


@FEW
@given(values=st.dictionaries(st.sampled_from(["class_name", "source", "text", "number", "state", "x"]), JSON))
def test_descriptions_of_any_type_are_read_or_refused_in_one_line(tmp_path: Path, values: dict[str, object]) -> None:
    path = tmp_path / "knowledge.jsonl"
    path.write_text(json.dumps(values) + "\n")
    try:
        read_descriptions(path)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("link", ["external", "storage", "virtual"])
def test_hdf5_data_that_points_to_another_file_is_refused(made: Made, tmp_path: Path, link: str) -> None:
    """Otherwise a file such as /etc/passwd could be read as scores."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4096))
    path, count = tmp_path / "scores.h5", len(read_index(made.index))
    path.write_bytes(made.scores.read_bytes())
    with h5py.File(path, "a") as file:
        del file["map"], file.attrs["digest"]
        if link == "external":
            file["map"] = h5py.ExternalLink(str(made.scores), "map")
        elif link == "storage":
            file.create_dataset("map", (count, 4, 4), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        else:
            layout = h5py.VirtualLayout((count, 4, 4), "f4")
            layout[:] = h5py.VirtualSource(str(made.scores), "map", (count, 4, 4))
            file.create_virtual_dataset("map", layout)
    with pytest.raises(InputError, match="'map' points to data elsewhere"), scored_index(path, made.index):
        pass


@pytest.mark.parametrize("change", ["value", "deleted", "swapped"])
def test_an_edited_metric_is_accepted_only_without_its_digest(made: Made, tmp_path: Path, change: str) -> None:
    frame, path = pd.read_csv(made.metrics, dtype=str, keep_default_na=False), tmp_path / "metrics.csv"
    if change == "value":
        frame.loc[0, "value"] = "0.123"
    else:
        frame = frame.drop(index=3) if change == "deleted" else frame.iloc[[1, 0, *range(2, len(frame))]]
    frame.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"line 2: .* do not fit their digest; .* delete the column digest to keep a"):
        read_metrics(path)
    frame.drop(columns="digest").to_csv(path, index=False)
    assert read_metrics(path)["value"].notna().sum() == (frame["value"] != "").sum()


@pytest.mark.parametrize("value", [7.0, -0.1, 1.5])
def test_a_metric_outside_its_range_is_refused(made: Made, tmp_path: Path, value: float) -> None:
    frame = pd.read_csv(made.metrics, keep_default_na=False)
    frame["value"] = frame["value"].astype(str)
    frame.loc[0, "value"] = str(value)
    frame.to_csv(tmp_path / "metrics.csv", index=False)
    with pytest.raises(InputError, match=rf"line 2: expected a image auroc from 0 to 1, found {value:g}"):
        read_metrics(tmp_path / "metrics.csv")
