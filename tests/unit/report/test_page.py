import base64
import json
import logging
import re
from dataclasses import asdict

import pandas as pd
import pytest
from PIL import Image

from kanoclip.report import formats
from kanoclip.report.gallery import read_gallery
from kanoclip.report.notes import TINY_NOTE
from kanoclip.report.page import write_page
from kanoclip.types import InputError


@pytest.fixture
def inputs(tmp_path):
    """Arguments of write_page: two methods on one dataset without masks, two figures."""

    def make(note="Missing (-), no masks: elpv pixel."):
        columns = pd.MultiIndex.from_product([["elpv"], ["image AUROC", "pixel AUROC"]])
        table = pd.DataFrame(
            [["<b>62.5</b>", "-"], ["50.0", "-"]], index=pd.Index(["clip", "random"], name="method"), columns=columns
        )
        (tmp_path / "main.html").write_text(formats.to_document(formats.to_html(table, [note]), "Main table"))
        figures = [tmp_path / "qualitative_elpv.png", tmp_path / "training_curves.png"]
        for figure, colour in zip(figures, ("red", "blue"), strict=True):
            Image.new("RGB", (8, 8), colour).save(figure)
        return {
            "table": tmp_path / "main.html",
            "figures": figures,
            "out": tmp_path / "index.html",
            "title": "a <quick> start",
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
    assert "://" not in text
    assert "<p>Missing (-), no masks: elpv pixel.</p>" in text
    assert "a &lt;quick&gt; start" in text
    assert "<quick>" not in text


def test_every_link_has_its_place(inputs, scored):
    index, scores = scored("elpv")
    arguments = inputs()
    write_page(**arguments, scores=[(index, path) for path in scores])
    text = arguments["out"].read_text()
    links, places = re.findall(r'href="#(.*?)"', text), re.findall(r' id="(.*?)"', text)
    assert links == ["table", "gallery", "qualitative_elpv", "training_curves"]
    assert len(set(places)) == len(places)
    assert set(links) | set(re.findall(r'aria-labelledby="(.*?)"', text)) <= set(places)
    assert "Anomaly maps: elpv" in text


def embedded_gallery(path):
    found = re.search(r'<script type="application/json" id="gallery-data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(found[1])


def test_holds_the_gallery_in_the_order_given(inputs, scored):
    pairs = [(index, path) for index, scores in map(scored, ["zebra", "ant"]) for path in scores]
    arguments = inputs()
    write_page(**arguments, scores=pairs, gallery=3)
    found = embedded_gallery(arguments["out"])
    expected = {name: asdict(view) for name, view in read_gallery(pairs, 3).items()}
    assert found == json.loads(json.dumps(expected))
    assert list(found) == ["zebra", "ant"]
    assert list(found["ant"]["methods"]) == ["kanoclip", "clip"]
    assert "At most 3 images" in arguments["out"].read_text()


def test_names_from_data_cannot_end_the_script(inputs, scored):
    index, (scores, _) = scored("elpv")
    index.write_text(index.read_text().replace("metal nut", "</script><b>"))
    arguments = inputs()
    write_page(**arguments, scores=[(index, scores)])
    assert "<b>" not in re.sub(r"<b>(62.5|missed|false alarm)</b>", "", arguments["out"].read_text())
    (method,) = embedded_gallery(arguments["out"])["elpv"]["methods"].values()
    assert list(method["classes"]) == ["</script><b>"]


def test_the_browser_is_forbidden_to_load_anything(inputs):
    arguments = inputs()
    write_page(**arguments)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', arguments["out"].read_text())
    allowed = dict(rule.split() for rule in policy.split("; "))
    assert allowed.pop("default-src") == "'none'"
    assert set(allowed.values()) == {"data:", "'unsafe-inline'"}


@pytest.mark.parametrize(("given", "count"), [(True, 0), (False, 12)])
def test_without_scores_or_places_there_is_no_gallery(inputs, scored, given, count):
    index, scores = scored("elpv")
    arguments = inputs()
    write_page(**arguments, scores=[(index, scores[0])] if given else [], gallery=count)
    assert "Gallery" not in re.sub("(?s)<script>.*", "", arguments["out"].read_text())


def test_logs_the_size(inputs, caplog):
    arguments = inputs()
    with caplog.at_level(logging.INFO, "kanoclip"):
        write_page(**arguments)
    assert caplog.messages == [f"{arguments['out']}: {arguments['out'].stat().st_size / 1e6:.1f} MB"]


@pytest.mark.parametrize(("note", "times"), [(TINY_NOTE, 2), ("Protocol: no auxiliary dataset.", 0)])
def test_says_when_the_backbone_is_tiny(inputs, note, times):
    arguments = inputs(note)
    write_page(**arguments)
    assert arguments["out"].read_text().count(TINY_NOTE) == times  # at the top and beneath the table


def test_a_file_without_a_table_is_refused_and_nothing_is_written(inputs):
    arguments = inputs()
    arguments["table"].write_text("<html></html>")
    with pytest.raises(
        InputError, match=r"main\.html: expected a table written by kanoclip tables, found none; run it"
    ):
        write_page(**arguments)
    assert not arguments["out"].exists()


@pytest.mark.parametrize(
    ("name", "message"), [("teaser.png", "no such figure"), ("portrait.png", "no figure has this")]
)
def test_a_missing_or_foreign_figure_is_refused_and_nothing_is_written(inputs, tmp_path, name, message):
    arguments = inputs()
    Image.new("RGB", (8, 8)).save(tmp_path / "portrait.png")
    with pytest.raises(InputError, match=rf"{name}: {message}"):
        write_page(**arguments | {"figures": [tmp_path / name]})
    assert not arguments["out"].exists()
