import base64
import io
import json
import logging
import re
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kanoclip.metrics.registry import METRICS_COLUMNS
from kanoclip.report import formats
from kanoclip.report.figures.samples import qualitative
from kanoclip.report.gallery import read_gallery
from kanoclip.report.notes import TINY_NOTE
from kanoclip.report.page import write_page
from kanoclip.report.registry import named
from kanoclip.report.style import save_reason
from kanoclip.types import InputError


@pytest.fixture
def inputs(tmp_path):
    """Return a function that makes arguments of write_page: two methods, one dataset without masks, two figures."""

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


def test_the_page_contains_the_table_and_the_figures_and_loads_no_other_file(inputs):
    arguments = inputs()
    write_page(**arguments)
    text = arguments["out"].read_text()
    assert re.findall(r"<td>(.*?)</td>", text) == ["<b>62.5</b>", "-", "50.0", "-"]
    embedded = [pixels(data) for data in re.findall(r'src="data:image/webp;base64,(.*?)"', text)]
    for found, figure in zip(embedded, arguments["figures"], strict=True):
        np.testing.assert_array_equal(found, np.asarray(Image.open(figure)))
    assert all(target.startswith(("#", "data:")) for target in re.findall(r'(?:src|href)="(.*?)"', text))
    assert "://" not in text
    assert "<p>Missing (-), no masks: elpv pixel.</p>" in text
    assert "a &lt;quick&gt; start" in text
    assert "<quick>" not in text


def test_every_link_has_a_target(inputs, scored):
    index, scores = scored("elpv")
    arguments = inputs()
    write_page(**arguments, scores=[(index, path) for path in scores])
    text = arguments["out"].read_text()
    links, places = re.findall(r'href="#(.*?)"', text), re.findall(r' id="(.*?)"', text)
    assert links == ["table", "gallery", "qualitative", "training_curves"]
    assert len(set(places)) == len(places)
    assert set(links) | set(re.findall(r'aria-labelledby="(.*?)"', text)) <= set(places)
    assert "Anomaly maps: elpv" in text


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_figures_of_one_declaration_are_grouped_and_one_is_open(inputs, tmp_path):
    arguments = inputs()
    names = ["teaser", "qualitative_elpv", "qualitative_visa", "histograms_elpv"]
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    write_page(**arguments | {"figures": [tmp_path / f"{name}.png" for name in names]})
    text = arguments["out"].read_text()
    assert re.findall(r'<h2 id="(.*?)"', text) == ["table", "teaser", "qualitative", "histograms"]
    assert re.findall(r'<details class="of-target" name="(.*?)"(.*?)>\s*<summary>(.*?)</summary>', text) == [
        ("qualitative", " open", "elpv"),
        ("qualitative", "", "visa"),
    ]
    assert text.count(named("qualitative").caption[:60]) == 1


def test_empty_figures_are_left_out_with_the_reason(inputs, tmp_path):
    arguments = inputs()
    save_reason(tmp_path / "bars.png", "no metrics")
    save_reason(tmp_path / "qualitative_elpv.png", "no <maps>")
    Image.new("RGB", (8, 8)).save(tmp_path / "qualitative_visa.png")
    figures = [tmp_path / f"{name}.png" for name in ("bars", "qualitative_elpv", "qualitative_visa")]
    write_page(**arguments | {"figures": figures})
    text = arguments["out"].read_text()
    assert re.findall(r'href="#(.*?)"', text) == ["table", "qualitative"]
    assert text.count('<img src="data:image/webp') == 1
    assert "Left out: elpv: no &lt;maps&gt;." in text and "AUROC by dataset: left out (no metrics)." in text


def test_photographs_are_compressed_and_keep_their_positions(inputs, scored, tmp_path):
    index, scores = scored("elpv")
    arguments = inputs() | {"figures": [tmp_path / "qualitative_elpv.png"]}
    qualitative(index, scores, tmp_path / "qualitative_elpv.png")
    write_page(**arguments)
    text = arguments["out"].read_text()
    (data,) = re.findall(r'src="data:image/webp;base64,(.*?)"', text)
    original = np.asarray(Image.open(tmp_path / "qualitative_elpv.png").convert("RGB"), dtype=float)
    assert pixels(data).shape == original.shape
    assert len(data) < (tmp_path / "qualitative_elpv.png").stat().st_size / 3
    assert np.abs(pixels(data) - original).mean() < 12  # noise is the worst case
    places = [
        tuple(map(float, place)) for place in re.findall(r"left:(.*?)%;top:(.*?)%;width:(.*?)%;height:(.*?)%", text)
    ]
    assert len(places) == 2 and all(0 <= value <= 100 for place in places for value in place)


def test_a_table_without_values_is_replaced_by_its_notes(inputs):
    arguments = inputs()
    table = pd.DataFrame([["-"]], index=pd.Index(["clip"], name="method"), columns=["flat image AUROC"])
    arguments["table"].write_text(formats.to_document(formats.to_html(table, ["Missing (-), unlabelled."]), "Main"))
    write_page(**arguments)
    text = arguments["out"].read_text()
    assert "<table" not in text and "<p>Missing (-), unlabelled.</p>" in text


def test_the_page_opens_with_the_last_method_and_its_class_of_highest_pixel_ap(inputs, scored, tmp_path):
    pairs = [(index, path) for index, scores in map(scored, ["zebra", "ant"]) for path in scores]
    for index, _ in pairs[::2]:  # a second class
        index.write_text(index.read_text().replace("0.png,,metal nut", "0.png,,bolt"))
    values = {
        ("zebra", "pixel", "bolt"): 0.4,
        ("zebra", "pixel", "metal nut"): 0.3,
        ("ant", "pixel", "metal nut"): None,
    }
    values |= {("ant", "image", "bolt"): 0.9, ("ant", "image", "metal nut"): 0.8, ("zebra", "image", "metal nut"): 1.0}
    rows = [
        {
            "method": method,
            "dataset": dataset,
            "seed": 1,
            "reason": "" if value else "no masks",
            "level": level,
            "metric": "ap",
            "class_name": name,
            "value": value,
        }
        for (dataset, level, name), value in values.items()
        for method, value in (("clip", value), ("kanoclip", 1 - value if value else None))
    ]
    pd.DataFrame(rows, columns=METRICS_COLUMNS).to_csv(tmp_path / "metrics.csv", index=False)
    arguments = inputs()
    write_page(**arguments, scores=pairs, metrics=tmp_path / "metrics.csv")
    opens = embedded_gallery(arguments["out"])["opens"]
    assert opens == {
        "dataset": "zebra",
        "method": "clip",  # the last method given; values of kanoclip would choose other classes
        "classes": {"zebra": "bolt", "ant": "bolt"},
        "why": "Opens with clip on bolt (zebra): of all classes the one with its highest pixel AP, 40 %.",
    }
    assert opens["why"] in arguments["out"].read_text().split('id="gallery-data"')[0]


def test_without_metrics_the_page_opens_with_the_first_class(inputs, scored):
    index, scores = scored("elpv")
    arguments = inputs()
    write_page(**arguments, scores=[(index, path) for path in scores])
    opens = embedded_gallery(arguments["out"])["opens"]
    assert opens == {"dataset": "elpv", "method": "clip", "classes": {"elpv": "metal nut"}, "why": ""}


def embedded_gallery(path):
    found = re.search(r'<script type="application/json" id="gallery-data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(found[1])


def test_the_gallery_has_the_given_order(inputs, scored):
    pairs = [(index, path) for index, scores in map(scored, ["zebra", "ant"]) for path in scores]
    arguments = inputs()
    write_page(**arguments, scores=pairs, gallery=3)
    found = embedded_gallery(arguments["out"])["datasets"]
    expected = {name: asdict(view) for name, view in read_gallery(pairs, 3).items()}
    assert found == json.loads(json.dumps(expected))
    assert list(found) == ["zebra", "ant"]
    assert list(found["ant"]["methods"]) == ["kanoclip", "clip"]
    assert "At most 3 images" in arguments["out"].read_text()


def test_names_in_the_data_cannot_close_the_script_element(inputs, scored):
    index, (scores, _) = scored("elpv")
    index.write_text(index.read_text().replace("metal nut", "</script><b>"))
    arguments = inputs()
    write_page(**arguments, scores=[(index, scores)])
    assert "<b>" not in re.sub(r"<b>(62.5|missed|false alarm)</b>", "", arguments["out"].read_text())
    (method,) = embedded_gallery(arguments["out"])["datasets"]["elpv"]["methods"].values()
    assert list(method["classes"]) == ["</script><b>"]


def test_the_content_security_policy_forbids_loading_files(inputs):
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


def test_the_size_of_the_page_is_logged(inputs, caplog):
    arguments = inputs()
    with caplog.at_level(logging.INFO, "kanoclip"):
        write_page(**arguments)
    assert caplog.messages == [f"{arguments['out']}: {arguments['out'].stat().st_size / 1e6:.1f} MB"]


@pytest.mark.parametrize(("note", "times"), [(TINY_NOTE, 2), ("Protocol: no auxiliary dataset.", 0)])
def test_the_page_states_when_the_backbone_is_tiny(inputs, note, times):
    arguments = inputs(note)
    write_page(**arguments)
    assert arguments["out"].read_text().count(TINY_NOTE) == times  # at the top and below the table


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


def test_the_page_names_the_rows_that_it_does_not_show(inputs):
    arguments = inputs()
    write_page(**arguments, hidden=["kanoclip_<2>", "mvfa"])
    assert "not in the gallery and the figures: kanoclip_&lt;2&gt;, mvfa" in arguments["out"].read_text()
    write_page(**arguments)
    assert "not in the gallery" not in arguments["out"].read_text()
