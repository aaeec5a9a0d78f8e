"""The tables of methods are up to date, and their numbers agree with formulas and with the papers."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from kanoclip import overview as module
from kanoclip.backbones.cost import tower_operations
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.methods import AnomalyOutput, Batch, base
from kanoclip.methods.clip import Clip, ClipOptions
from kanoclip.overview import Overview, overview, overviews, page, short, with_table
from kanoclip.types import InputError

ROOT = Path(__file__).parents[2]
LARGE = TowerShape(24, (6, 12, 18, 24), 6, 1024, 768, (37, 37))


@pytest.fixture(scope="module")
def rows() -> dict[str, Overview]:
    return {row.name: row for row in overviews()}


def test_the_committed_tables_are_generated(rows: dict[str, Overview]) -> None:
    found = list(rows.values())
    assert (ROOT / "docs/methods/README.md").read_text() == page(found), "run: make generated"
    readme = (ROOT / "README.md").read_text()
    assert readme == with_table(readme, short(found), "README.md"), "run: make generated"


def test_numbers_of_parameters_equal_those_of_the_papers(rows: dict[str, Overview]) -> None:
    printed = {"anomalyclip": 43_008, "april_gan": 3_148_800, "mvfa": 12_582_912, "clip": 0, "winclip": 0}
    assert {name: rows[name].learned for name in printed} == printed


def test_counted_operations_are_those_of_the_formula(rows: dict[str, Overview]) -> None:
    """Methods add little to one run of CLIP's tower, except MVFA-AD, which runs the rest of the tower itself."""
    for name in ("clip", "april_gan", "anomalyclip"):
        assert rows[name].counted
        assert rows[name].operations == pytest.approx(tower_operations(rows[name].reads, LARGE, 14), rel=0.01)
    tower = tower_operations(["tokens/24"], LARGE, 14)
    adapters = 4 * 2 * 2 * 2 * 1370 * 1024 * 768  # levels, branches, ways, operations
    assert rows["mvfa"].reads == ("tokens/6",)
    assert rows["mvfa"].operations == pytest.approx(tower + adapters, rel=0.01)


class Reader(Clip):
    """A method that reads a second tower as well."""

    published_backbone = {"towers": {"dino": {"model": "vit_tiny_patch16_224", "weights": "pretrained"}}}

    @classmethod
    def reads(cls, options: ClipOptions, tower: TowerShape) -> frozenset[Tap]:
        return super().reads(options, tower) | {Tap("tokens", 3, "dino")}


class Looker(Clip):
    """A method whose operations depend on a value."""

    def forward(self, batch: Batch) -> AnomalyOutput:
        found = super().forward(batch)
        scores: Tensor = found.image_score
        return found if scores.max().item() > 0 else AnomalyOutput(found.map, -scores)


def test_operations_of_second_towers_are_counted(monkeypatch: pytest.MonkeyPatch, rows: dict[str, Overview]) -> None:
    monkeypatch.setattr(module, "SIZE", 224)  # a multiple of 14 and 16
    alone = overview("clip")
    monkeypatch.setitem(base._METHODS, "reader", Reader)
    found = overview("reader")
    assert found.towers == ("vit_tiny_patch16_224",) and "dino:tokens/3" in found.reads
    second = tower_operations(["tokens/3"], TowerShape(12, (3, 6, 9, 12), 3, 192, 192, (14, 14)), 16)
    assert found.operations - alone.operations == pytest.approx(second, rel=0.02)
    assert "(second tower: vit_tiny_patch16_224)" in page([found])


def test_operations_that_depend_on_values_give_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIZE", 224)
    monkeypatch.setitem(base._METHODS, "looker", Looker)
    found = overview("looker")
    assert not found.counted
    assert f"≥ {found.operations / 1e9:,.0f}" in short([found])


def test_a_readme_without_marks_is_refused() -> None:
    values: Any = "# A readme without marks"
    with pytest.raises(InputError, match="README.md: expected the marks"):
        with_table(values, "| table |", "README.md")
    marked = f"a\n{module.BEGIN}\nold\n{module.END}\nb\n"
    assert with_table(marked, "new", "x") == f"a\n{module.BEGIN}\nnew\n{module.END}\nb\n"
