"""Run one suite on every registered dataset: its spec, and `prepare` on a tiny copy in its official layout."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from layout_writers import WRITERS, write

from kanoclip.datasets import specs
from kanoclip.datasets.index import load_image, load_mask, read_index
from kanoclip.datasets.prepare import prepare
from kanoclip.datasets.specs import SyntheticSource, dataset_names, load_spec

NAMES = dataset_names()
DRAWN = [name for name in NAMES if isinstance(load_spec(name).source, SyntheticSource)]
TABLE = yaml.safe_load(specs.CLASS_NAMES.read_text())["datasets"]


@pytest.mark.parametrize("name", NAMES)
def test_spec_has_title_licence_citation_and_notes(name):
    spec = load_spec(name)
    assert spec.name == name
    assert spec.title and spec.licence and spec.citation and spec.notes


@pytest.mark.parametrize("name", NAMES)
def test_class_name_table_covers_exactly_the_classes(name):
    assert name in TABLE, f"add the class names of {name} to kanoclip/datasets/class_names.yaml (CONTRIBUTING)"
    assert set(TABLE[name]) == set(load_spec(name).classes)


def test_every_dataset_has_a_writer_of_its_layout_or_is_drawn():
    missing = set(NAMES) - set(WRITERS) - set(DRAWN)
    assert not missing, f"add a writer to tests/unit/datasets/layout_writers.py (CONTRIBUTING) for: {sorted(missing)}"
    assert set(WRITERS) | set(DRAWN) == set(NAMES)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_prepare_reads_the_official_layout(name, tmp_path):
    spec = load_spec(name)
    written = write(name, tmp_path / "source")
    out = tmp_path / "run" / "data" / name / "index.csv"
    prepare(spec, out, tmp_path / "resources", path=written.root)

    found = {}
    for split in ("train", "test"):
        if all(row[2] != split for row in written.rows.values()):
            continue
        for row in read_index(out, split).itertuples():
            image = Path(row.image_path).relative_to(written.root.resolve()).as_posix()
            mask = Path(row.mask_path).relative_to(written.root.resolve()).as_posix() if row.mask_path else ""
            found[row.class_name, image] = (row.label, row.defect, row.split, mask)
    expected = {(spec.class_name(folder), image): row for (folder, image), row in written.rows.items()}
    assert found == expected
    assert {row[0] for row in found.values()} == {0, 1}
    assert spec.masks == any(row[3] for row in found.values())


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_dataset_has_its_counts_and_exact_masks(name, tmp_path):
    spec = load_spec(name)
    prepare(spec, tmp_path / "index.csv", tmp_path / "resources")
    frame = read_index(tmp_path / "index.csv")
    counts = frame.groupby(["class_name", "label"]).size()
    assert set(frame["class_name"]) == {spec.class_name(kind) for kind in spec.classes}
    assert (counts.xs(0, level="label") == spec.source.normal).all()
    assert (counts.xs(1, level="label") == spec.source.anomalous).all()
    assert ((frame["mask"] != "") == (frame["label"] == 1)).all()
    for row in frame[frame["label"] == 1].itertuples():
        mask = load_mask(row.mask_path, load_image(row.image_path).size)
        assert 0 < mask.mean() < 0.5, row.image
        assert mask.shape == (spec.source.size, spec.source.size)
        assert mask.dtype == np.bool_


def test_auxiliary_and_target_of_the_quickstart_share_no_class():
    auxiliary, target = load_spec("synthetic_auxiliary"), load_spec("synthetic")
    assert not set(auxiliary.classes) & set(target.classes)
    assert not set(auxiliary.class_names.values()) & set(target.class_names.values())
