"""Test the style of the figures."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from kanoclip.report.style import drawing, marks, say


def test_styles_of_many_methods_differ_with_and_without_colour():
    found = marks([f"method {k}" for k in range(90)])
    assert len({(mark.colour, mark.marker, str(mark.line), mark.hatch) for mark in found.values()}) == 90
    first = list(found.values())[:9]
    for feature in ("colour", "marker", "line", "hatch"):
        assert len({str(getattr(mark, feature)) for mark in first}) == 9


def test_a_figure_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), drawing(tmp_path / "figure.png", 1, 1, (2, 2)):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_panel_without_data_states_the_reason():
    panel = Figure().subplots()
    say(panel, "no masks")
    assert [text.get_text() for text in panel.texts] == ["no masks"]
    assert not panel.axison


def test_panels_are_arranged_in_rows_and_columns(tmp_path):
    with drawing(tmp_path / "figure.png", 2, 3, (1, 1)) as (figure, panels):
        assert panels.shape == (2, 3)
        assert np.allclose(figure.get_size_inches(), (3, 2))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".pdf", ".png", ".svg"]
