import base64
import re

import pandas as pd
import pytest
from PIL import Image

from kanoclip.report.page import write_page
from kanoclip.report.tables import TINY_NOTE
from kanoclip.types import InputError

COLUMNS = [
    "method", "backbone", "auxiliary", "dataset", "class_name", "seed", "level", "metric",
    "value", "low", "high", "threshold", "reason",
]  # fmt: skip


@pytest.fixture
def inputs(tmp_path):
    """Arguments of write_page: two methods on one dataset without masks, two figures."""

    def make(backbone="kanoclip-tiny"):
        rows = [
            (method, backbone, "none", "elpv", "mean", 0, level, "auroc", value, None, None, None, reason)
            for method, image in [("clip", 0.625), ("random", 0.5)]
            for level, value, reason in [("image", image, ""), ("pixel", None, "no masks")]
        ]
        pd.DataFrame(rows, columns=COLUMNS).to_csv(tmp_path / "metrics.csv", index=False)
        figures = [tmp_path / "qualitative_elpv.png", tmp_path / "training_curves.png"]
        for figure, colour in zip(figures, ("red", "blue"), strict=True):
            Image.new("RGB", (8, 8), colour).save(figure)
        return {
            "metrics": tmp_path / "metrics.csv",
            "figures": figures,
            "out": tmp_path / "index.html",
            "title": "a <quick> start",
            "methods": ["clip", "random"],
            "datasets": ["elpv"],
            "facts": ["image size 224"],
        }

    return make


def test_holds_the_table_and_the_figures_and_needs_nothing_else(inputs):
    arguments = inputs()
    write_page(**arguments)
    text = arguments["out"].read_text()
    assert re.findall(r"<td>(.*?)</td>", text) == ["<b>62.5</b>", "-", "50.0", "-"]
    embedded = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,(.*?)"', text)]
    assert embedded == [figure.read_bytes() for figure in arguments["figures"]]
    assert all(target.startswith(("#", "data:")) for target in re.findall(r'(?:src|href)="(.*?)"', text))
    assert "http" not in text
    assert "image size 224" in text
    assert "a &lt;quick&gt; start" in text
    assert "<quick>" not in text


def test_every_link_has_its_place(inputs):
    arguments = inputs()
    write_page(**arguments)
    text = arguments["out"].read_text()
    assert re.findall(r'href="#(.*?)"', text) == ["table", "qualitative_elpv", "training_curves"]
    assert re.findall(r'id="(.*?)"', text) == ["table", "qualitative_elpv", "training_curves"]
    assert "Anomaly maps: elpv" in text


@pytest.mark.parametrize(("backbone", "times"), [("kanoclip-tiny", 2), ("ViT-L-14-336-quickgelu", 0)])
def test_says_when_the_backbone_is_tiny(inputs, backbone, times):
    arguments = inputs(backbone)
    write_page(**arguments)
    assert arguments["out"].read_text().count(TINY_NOTE) == times  # at the top and beneath the table


@pytest.mark.parametrize(("name", "message"), [("teaser.png", "no such figure"), ("bars.png", "no caption")])
def test_a_missing_or_foreign_figure_is_refused_and_nothing_is_written(inputs, tmp_path, name, message):
    arguments = inputs()
    Image.new("RGB", (8, 8)).save(tmp_path / "bars.png")
    with pytest.raises(InputError, match=rf"{name}: {message}"):
        write_page(**arguments | {"figures": [tmp_path / name]})
    assert not arguments["out"].exists()
