"""Test the picture of the generator of synthetic images."""

from PIL import Image

from kanoclip.datasets.synthetic import AUXILIARY_KINDS, DEFECTS, KINDS, defects_of
from kanoclip.report.figures import generator as module
from kanoclip.report.figures.generator import generator, spread_defects


def test_every_kind_and_every_defect_is_shown():
    chosen = spread_defects()
    assert list(chosen) == [*KINDS, *AUXILIARY_KINDS]
    assert {defect for defects in chosen.values() for defect in defects} == set(DEFECTS)
    for kind, defects in chosen.items():
        assert set(defects) <= set(defects_of(kind))
        assert len(set(defects)) == min(3, len(defects_of(kind)))


def test_the_picture_is_drawn_and_small(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EVERY_KIND", ("screw", "lung"))
    generator(tmp_path / "first.png")
    generator(tmp_path / "second.png")
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    with Image.open(tmp_path / "first.png") as image:
        assert image.mode == "P" and image.width > 600
