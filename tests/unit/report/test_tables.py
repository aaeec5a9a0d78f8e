"""Tables against values computed by hand."""

import re

import pandas as pd
import pytest

from kanoclip.report import formats
from kanoclip.report.tables import SEEN_NOTE, TINY_NOTE, collect, main_table, notes, read_metrics, write_tables
from kanoclip.types import InputError

COLUMNS = [
    "method", "backbone", "auxiliary", "dataset", "class_name", "seed", "level", "metric",
    "value", "low", "high", "threshold", "reason",
]  # fmt: skip
IMAGE, PIXEL = "image AUROC", "pixel AUROC"


def rows(method, dataset, seed, image, pixel=None, auxiliary="none", backbone="ViT-L-14", reason="no masks"):
    """The class rows and mean rows of a file; the classes differ from the mean, and AP differs from AUROC."""
    values = [("image", "auroc", image), ("pixel", "auroc", pixel), ("image", "ap", 0.01)]
    return [
        (
            method,
            backbone,
            auxiliary,
            dataset,
            class_name,
            seed,
            level,
            metric,
            value,
            None,
            None,
            None,
            "" if value is not None else reason,
        )
        for class_name, offset in [("a", 0.0), ("mean", 0.0)]
        for level, metric, value in values
    ]


def frame_of(*parts):
    frame = pd.DataFrame([row for part in parts for row in part], columns=COLUMNS)
    frame.loc[(frame["class_name"] == "a") & frame["value"].notna(), "value"] = 0.123
    return frame.astype(dict.fromkeys(("value", "low", "high", "threshold"), float))


@pytest.fixture
def frame():
    return frame_of(
        rows("oracle", "visa", 0, 1.0, 1.0),
        rows("clip", "visa", 0, 0.7, 0.4),
        rows("clip", "headct", 0, 0.56789),
        rows("kanoclip", "visa", 0, 0.80, 0.90, auxiliary="mvtec_ad"),
        rows("kanoclip", "visa", 1, 0.82, 0.94, auxiliary="mvtec_ad"),
        rows("kanoclip", "headct", 0, 0.5, auxiliary="mvtec_ad"),
        rows("kanoclip", "headct", 1, 0.5, auxiliary="mvtec_ad"),
        rows("oracle", "headct", 0, 1.0),
    )


METHODS, DATASETS = ["clip", "kanoclip", "oracle"], ["headct", "visa"]


def test_main_table_by_hand(frame):
    table = main_table(frame, METHODS, DATASETS)
    assert list(table.index) == METHODS
    assert list(table.columns) == [(dataset, label) for dataset in DATASETS for label in (IMAGE, PIXEL)]
    assert table.loc["clip"].tolist() == ["56.8", "-", "70.0", "40.0"]
    # 80 and 82: mean 81, sample standard deviation sqrt(2); 90 and 94: mean 92, standard deviation 2 sqrt(2)
    assert table.loc["kanoclip"].tolist() == ["50.0 ± 0.0", "-", "81.0 ± 1.4", "92.0 ± 2.8"]
    assert table.loc["oracle"].tolist() == ["100.0", "-", "100.0", "100.0"]


def test_best_and_second_leave_the_controls_out(frame):
    table = main_table(frame, METHODS, DATASETS, formats.MARKDOWN)
    assert table["visa", IMAGE].tolist() == ["<u>70.0</u>", "**81.0 ± 1.4**", "100.0"]
    assert table["headct", IMAGE].tolist() == ["**56.8**", "<u>50.0 ± 0.0</u>", "100.0"]
    assert table["headct", PIXEL].tolist() == ["-", "-", "-"]


def test_values_that_look_equal_share_the_place():
    parts = [rows(name, "visa", 0, value) for name, value in [("a", 0.8004), ("b", 0.7996), ("c", 0.7), ("d", 0.6)]]
    table = main_table(frame_of(*parts), list("abcd"), ["visa"], formats.MARKDOWN)
    assert table["visa", IMAGE].tolist() == ["**80.0**", "**80.0**", "<u>70.0</u>", "60.0"]


def test_a_seen_dataset_is_marked_and_not_ranked():
    frame = frame_of(rows("clip", "visa", 0, 0.7), rows("kanoclip", "visa", 0, 0.9, auxiliary="visa"))
    table = main_table(frame, ["clip", "kanoclip"], ["visa"], formats.MARKDOWN)
    assert table["visa", IMAGE].tolist() == ["**70.0**", "90.0†"]
    assert SEEN_NOTE in notes(frame, ["clip", "kanoclip"], ["visa"])
    assert SEEN_NOTE not in notes(frame, ["clip"], ["visa"])


def test_a_seed_without_a_value_leaves_the_cell_empty():
    frame = frame_of(rows("clip", "visa", 0, 0.7), rows("clip", "visa", 1, None, reason="one class only: all normal"))
    assert main_table(frame, ["clip"], ["visa"])["visa", IMAGE].tolist() == ["-"]
    assert any("one class only: all normal: visa image" in line for line in notes(frame, ["clip"], ["visa"]))


def test_a_method_on_two_backbones_has_two_rows():
    frame = frame_of(rows("clip", "visa", 0, 0.7), rows("clip", "visa", 0, 0.6, backbone="ViT-B-16"))
    table = main_table(frame, ["clip"], ["visa"])
    assert list(table.index) == ["clip (ViT-L-14)", "clip (ViT-B-16)"]
    assert table["visa", IMAGE].tolist() == ["70.0", "60.0"]


def test_one_row_whose_targets_have_different_auxiliaries():
    frame = frame_of(
        rows("kanoclip", "mvtec_ad", 0, 0.9, auxiliary="visa"), rows("kanoclip", "visa", 0, 0.8, auxiliary="mvtec_ad")
    )
    table = main_table(frame, ["kanoclip"], ["mvtec_ad", "visa"])
    assert table.loc["kanoclip"].tolist() == ["90.0", "-", "80.0", "-"]
    protocol = notes(frame, ["kanoclip"], ["mvtec_ad", "visa"])[0]
    assert "auxiliary dataset visa (for mvtec_ad), mvtec_ad (for visa)" in protocol


def test_two_auxiliaries_in_one_cell_are_refused():
    frame = frame_of(
        rows("kanoclip", "elpv", 0, 0.9, auxiliary="visa"), rows("kanoclip", "elpv", 1, 0.8, auxiliary="mvtec_ad")
    )
    with pytest.raises(InputError, match=r"kanoclip on elpv: one cell with several auxiliary .* \(visa, mvtec_ad\)"):
        main_table(frame, ["kanoclip"], ["elpv"])


def test_unknown_rows_and_columns_name_the_nearest(frame):
    with pytest.raises(InputError, match="unknown method in the metrics 'kanoklip'; did you mean 'kanoclip'"):
        main_table(frame, ["kanoklip"], ["visa"])
    with pytest.raises(InputError, match="unknown dataset in the metrics 'vsia'; did you mean 'visa'"):
        main_table(frame, ["clip"], ["vsia"])


def test_notes_state_the_protocol(frame):
    lines = notes(frame, METHODS, DATASETS, ["image size 518", "kanoclip 0.1.0"])
    assert lines[0] == (
        "Protocol: auxiliary dataset mvtec_ad; backbone ViT-L-14; image size 518; kanoclip 0.1.0; seeds 0, 1."
    )
    assert lines[1] == (
        "AUROC in percent, unweighted mean over classes, mean ± standard deviation over seeds. "
        "Best bold, second underlined; not ranked: oracle."
    )
    assert "Missing (-), no masks: headct pixel." in lines
    assert TINY_NOTE not in lines
    assert "standard deviation" not in notes(frame, ["clip"], DATASETS)[1]


def test_a_method_that_was_not_run_on_a_dataset(frame):
    fewer = frame[~((frame["method"] == "clip") & (frame["dataset"] == "visa"))]
    assert main_table(fewer, METHODS, DATASETS).loc["clip", "visa"].tolist() == ["-", "-"]
    assert "Missing (-), not run: clip on visa." in notes(fewer, METHODS, DATASETS)


@pytest.fixture
def metrics_files(frame, tmp_path):
    frame["backbone"] = "kanoclip-tiny"
    frame.loc[frame["method"] == "clip", "method"] = "clip_ac"
    files = []
    for i, (_, part) in enumerate(frame.groupby(["method", "dataset", "seed"], sort=False)):
        files.append(tmp_path / f"{i}.csv")
        part.to_csv(files[-1], index=False)
    return files


def test_collect_keeps_every_value_and_the_order(metrics_files, tmp_path):
    collected = collect(metrics_files, tmp_path / "all" / "metrics.csv")
    assert read_metrics(tmp_path / "all" / "metrics.csv").equals(collected)
    assert list(dict.fromkeys(collected["method"])) == ["oracle", "clip_ac", "kanoclip"]
    assert 0.56789 in collected["value"].tolist()
    assert collected.loc[collected["value"].isna(), "reason"].unique().tolist() == ["no masks"]


def test_collect_refuses_a_value_given_twice_and_foreign_files(metrics_files, tmp_path):
    out = tmp_path / "metrics.csv"
    with pytest.raises(InputError, match="method oracle, backbone kanoclip-tiny, .* is given twice"):
        collect([metrics_files[0], metrics_files[0]], out)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"other\.csv: expected the columns method,.*, found a,b"):
        collect([tmp_path / "other.csv"], out)
    with pytest.raises(InputError, match="no metrics files"):
        collect([], out)
    assert not out.exists()


def test_every_rendering_holds_the_same_cells_and_says_that_the_backbone_is_tiny(metrics_files, tmp_path):
    out = tmp_path / "tables"
    write_tables(metrics_files, out, ["clip_ac", "kanoclip", "oracle"], DATASETS, ["image size 224"])
    names = {"metrics.csv", "main.csv", "main.md", "main.tex", "main.html"}
    assert {path.name for path in out.iterdir()} == names
    texts = {name: (out / name).read_text() for name in names - {"metrics.csv"}}
    assert all(TINY_NOTE in text and "image size 224" in text for text in texts.values())
    assert "| clip_ac  | **56.8**" in texts["main.md"]
    assert r"clip\_ac & \textbf{56.8} & - & \underline{70.0} & \underline{40.0} \\" in texts["main.tex"]
    assert r"\textbf{81.0 $\pm$ 1.4}" in texts["main.tex"]
    assert r"\toprule" in texts["main.tex"]
    assert r"\multicolumn{2}{c}{headct}" in texts["main.tex"]

    plain = pd.read_csv(out / "main.csv", index_col="method", dtype=str)
    assert plain["visa image AUROC"].tolist() == ["70.0", "81.0 ± 1.4", "100.0"]
    cells = re.findall(r"<td>(.*?)</td>", texts["main.html"])
    assert cells[2::4] == ["<u>70.0</u>", "<b>81.0 ± 1.4</b>", "100.0"]
