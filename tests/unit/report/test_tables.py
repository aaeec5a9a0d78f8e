"""Compare tables with values computed by hand."""

import html
import math
import re
import shutil
import subprocess
from datetime import date

import pandas as pd
import pytest

from kanoclip.config import BackboneConfig
from kanoclip.report import formats, tables
from kanoclip.report.cells import KANOCLIP_PAPER, OWN_PAPER, Cell
from kanoclip.report.metrics import collect, read_metrics
from kanoclip.report.notes import MARKS, SEEN_NOTE, TINY_NOTE, legend
from kanoclip.report.tables import ablation_of, tables_of, write_tables
from kanoclip.rows import Row
from kanoclip.run import Run, RunTarget
from kanoclip.types import InputError

COLUMNS = [
    "method", "backbone", "auxiliary", "dataset", "class_name", "seed", "level", "metric",
    "value", "low", "high", "threshold", "reason",
]  # fmt: skip
IMAGE, PIXEL = "image AUROC", "pixel AUROC"
DOCUMENT = r"""\documentclass{article}
\usepackage[a4paper,landscape,margin=1cm]{geometry}
\usepackage{booktabs,longtable}
\begin{document}
\input{TABLE}
\end{document}
"""


def rows(method, dataset, seed, image, pixel=None, auxiliary="none", backbone="ViT-L-14", reason="no masks"):
    """Return the class rows and mean rows of a file; classes differ from the mean, and AP differs from AUROC."""
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


def main_table(frame, methods, datasets, style=formats.PLAIN, controls=()):
    return tables.main_table(frame, methods, datasets, controls).render(style)


def notes(frame, methods, datasets, facts=(), controls=()):
    table = tables.main_table(frame, methods, datasets, controls)
    return legend(table.cells, table.what, facts)


METHODS, DATASETS, CONTROLS = ["clip", "kanoclip", "oracle"], ["headct", "visa"], ["oracle"]


def test_the_main_table_equals_values_by_hand(frame):
    table = main_table(frame, METHODS, DATASETS)
    assert list(table.index) == METHODS
    assert list(table.columns) == [(dataset, label) for dataset in [*DATASETS, "average"] for label in (IMAGE, PIXEL)]
    # image average (56.789 + 70) / 2; pixel average over visa alone, where there are masks
    assert table.loc["clip"].tolist() == ["56.8", "-", "70.0", "40.0", "63.4", "40.0"]
    # 80 and 82: mean 81, sample standard deviation sqrt(2); 90 and 94: mean 92, standard deviation 2 sqrt(2)
    # averages of the seeds (50 + 80) / 2 and (50 + 82) / 2: mean 65.5, standard deviation sqrt(2) / 2
    expected = ["50.0 ± 0.0", "-", "81.0 ± 1.4", "92.0 ± 2.8", "65.5 ± 0.7", "92.0 ± 2.8"]
    assert table.loc["kanoclip"].tolist() == expected
    assert table.loc["oracle"].tolist() == ["100.0", "-", "100.0", "100.0", "100.0", "100.0"]
    assert "Average, pixel level: over visa; the others have no value." in notes(frame, METHODS, DATASETS)


def test_an_average_needs_every_dataset_and_is_marked_if_one_was_seen_in_training():
    frame = frame_of(
        rows("clip", "visa", 0, 0.7, 0.4),
        rows("kanoclip", "visa", 0, 0.8, 0.9, auxiliary="visa"),
        rows("clip", "elpv", 0, 0.6, 0.5),
        rows("kanoclip", "elpv", 0, 0.5, reason="no masks", auxiliary="visa"),
    )
    table = main_table(frame, ["clip", "kanoclip"], ["visa", "elpv"])
    assert table["average", IMAGE].tolist() == ["65.0", "65.0†"]
    assert table["average", PIXEL].tolist() == ["45.0", "-"]
    expected = "Missing (-), not every dataset has a value: average pixel."
    assert expected in notes(frame, ["clip", "kanoclip"], ["visa", "elpv"])
    assert list(main_table(frame, ["clip"], ["visa"]).columns) == [("visa", IMAGE), ("visa", PIXEL)]


def test_controls_are_never_best_or_second(frame):
    table = main_table(frame, METHODS, DATASETS, formats.MARKDOWN, CONTROLS)
    assert table["average", IMAGE].tolist() == ["<u>63.4</u>", "**65.5 ± 0.7**", "100.0"]
    assert table["visa", IMAGE].tolist() == ["<u>70.0</u>", "**81.0 ± 1.4**", "100.0"]
    assert table["headct", IMAGE].tolist() == ["**56.8**", "<u>50.0 ± 0.0</u>", "100.0"]
    assert table["headct", PIXEL].tolist() == ["-", "-", "-"]


def test_values_that_are_equal_as_printed_share_a_rank():
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


def test_targets_of_one_row_can_have_different_auxiliaries():
    frame = frame_of(
        rows("kanoclip", "mvtec_ad", 0, 0.9, auxiliary="visa"), rows("kanoclip", "visa", 0, 0.8, auxiliary="mvtec_ad")
    )
    table = main_table(frame, ["kanoclip"], ["mvtec_ad", "visa"])
    assert table.loc["kanoclip"].tolist() == ["90.0", "-", "80.0", "-", "85.0", "-"]
    protocol = notes(frame, ["kanoclip"], ["mvtec_ad", "visa"])[0]
    assert "auxiliary dataset visa (for mvtec_ad), mvtec_ad (for visa)" in protocol


def test_two_auxiliaries_in_one_cell_are_refused():
    frame = frame_of(
        rows("kanoclip", "elpv", 0, 0.9, auxiliary="visa"), rows("kanoclip", "elpv", 1, 0.8, auxiliary="mvtec_ad")
    )
    with pytest.raises(InputError, match=r"kanoclip on elpv: one cell with several auxiliary .* \(visa, mvtec_ad\)"):
        main_table(frame, ["kanoclip"], ["elpv"])


def test_the_error_on_unknown_rows_and_columns_suggests_the_nearest(frame):
    with pytest.raises(InputError, match="unknown method in the metrics 'kanoklip'; did you mean 'kanoclip'"):
        main_table(frame, ["kanoklip"], ["visa"])
    with pytest.raises(InputError, match="unknown dataset in the metrics 'vsia'; did you mean 'visa'"):
        main_table(frame, ["clip"], ["vsia"])


def test_notes_state_the_protocol(frame):
    lines = notes(frame, METHODS, DATASETS, ["image size 518", "kanoclip 0.1.0"], CONTROLS)
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


def test_a_method_that_was_not_run_on_a_dataset_is_noted(frame):
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


def test_collect_refuses_duplicate_values_and_other_files(metrics_files, tmp_path):
    out = tmp_path / "metrics.csv"
    with pytest.raises(InputError, match="method oracle, backbone kanoclip-tiny, .* is given twice"):
        collect([metrics_files[0], metrics_files[0]], out)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"other\.csv: expected the columns method,.*, found a,b"):
        collect([tmp_path / "other.csv"], out)
    with pytest.raises(InputError, match="no metrics files"):
        collect([], out)
    assert not out.exists()


def run_of(rows, targets, controls=(), ablations=None, backbone="ViT-L-14"):
    return Run(
        version="0.1.0",
        rows=[
            Row(
                name=name,
                method=name,
                recipe="protocol",
                options={},
                training_options={},
                backbone=backbone,
                control=name in controls,
                trainable=False,
            )
            for name in rows
        ],
        jobs=(),
        taps={},
        cached_targets=False,
        main=rows,
        ablations=ablations or {},
        targets=[RunTarget(name=name, title=title, domain=domain, limit=None) for name, title, domain in targets],
        backbones={backbone: BackboneConfig(model="ViT-L-14", weights="openai", image_size=224)},
        resolution=None,
    )


TARGETS = [("headct", "HeadCT", "medical"), ("visa", "VisA", "industrial"), ("own", "own", None)]


@pytest.fixture
def printed():
    paper = {"kind": KANOCLIP_PAPER, "source": "A paper (2025), Table 1", "title": "KAnoCLIP"}
    own = {"kind": OWN_PAPER, "source": "Its own (2024)", "title": "CLIP"}
    return [
        Cell("kanoclip", "visa", "mean", "image", "auroc", 99.9, **paper),
        Cell("kanoclip", "visa", "mean", "pixel", "auroc", 97.7, **paper, doubtful=True, note="a slip"),
        Cell("clip", "visa", "mean", "image", "auroc", 66.4, **own),
        Cell("clip", "visa", "mean", "image", "ap", 50.0, **own),
        Cell("nobody", "visa", "mean", "image", "auroc", 50.0, **own),
    ]


def test_printed_numbers_have_their_own_rows_and_are_not_ranked(frame, printed):
    run = run_of(METHODS, TARGETS[:2], CONTROLS)
    table = tables_of(frame, run, printed)["industrial"]
    text = table.render(formats.MARKDOWN)
    assert list(text.columns) == ["VisA"]
    assert text["VisA"].to_dict() == {
        ("CLIP", "here"): "<u>70.0</u> / <u>40.0</u>",
        ("CLIP", "own paper"): "66.4 / -",
        ("KAnoCLIP", "here"): "**81.0 ± 1.4** / **92.0 ± 2.8**",
        ("KAnoCLIP", "KAnoCLIP paper"): "99.9 / 97.7‡",
        ("oracle", "here"): "100.0 / 100.0",
    }


def test_there_is_one_table_per_domain_and_a_complete_one(frame, printed):
    extra = frame_of(*(rows(name, "own", 0, 0.6, 0.7) for name in METHODS))
    run = run_of(METHODS, TARGETS, CONTROLS)
    made = tables_of(pd.concat([frame, extra]), run, printed)
    assert list(made) == run.tables == ["main", "full", "industrial", "medical"]
    assert list(made["medical"].render(formats.PLAIN).columns) == ["HeadCT"]
    full = made["full"].render(formats.PLAIN)
    assert list(full.columns) == [IMAGE, "image AP", PIXEL]
    places = [(dataset, name) for dataset in ("headct", "visa", "own") for name in ("a", "mean")]
    assert list(full.index) == [(*place, method) for place in places for method in METHODS]
    assert full.loc[("visa", "mean", "kanoclip")].tolist() == ["81.0 ± 1.4", "1.0 ± 0.0", "92.0 ± 2.8"]
    assert full.loc[("visa", "a", "clip")].tolist() == ["12.3", "12.3", "12.3"]


def test_an_ablation_has_its_rows_and_averages(frame, printed):
    run = run_of(METHODS, TARGETS[:2], ablations={"steps": ("clip", "kanoclip")})
    text = ablation_of(frame, run, "steps", printed).render(formats.PLAIN)
    assert list(text.columns) == ["HeadCT", "VisA", "average"]
    assert text.loc[("KAnoCLIP", "here"), "average"] == "65.5 ± 0.7 / 92.0 ± 2.8"
    assert text.loc[("KAnoCLIP", "KAnoCLIP paper")].tolist() == ["- / -", "99.9 / 97.7‡", "- / -"]
    with pytest.raises(InputError, match="unknown ablation 'stps'; did you mean 'steps'"):
        ablation_of(frame, run, "stps", printed)


@pytest.fixture
def published_file(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text(
        "method,title,dataset,level,metric,value,source_kind,source,doubtful,note\n"
        "clip_ac,CLIP-AC,visa,image,auroc,65.0,kanoclip_paper,A paper (2025),yes,printed 20 below\n"
    )
    return path


def test_every_format_has_the_same_cells_and_notes(metrics_files, published_file, tmp_path):
    out = tmp_path / "tables"
    run = run_of(["clip_ac", "kanoclip", "oracle"], TARGETS[:2], CONTROLS, backbone="kanoclip-tiny")
    write_tables(metrics_files, out, run, [published_file], date(2025, 1, 31))
    tables = ("main", "full", "industrial", "medical")
    names = {f"{table}.{ending}" for table in tables for ending in ("csv", "md", "tex", "html")}
    assert {path.name for path in out.iterdir()} == {"metrics.csv"} | names
    texts = {name: (out / name).read_text() for name in names}
    for text in texts.values():
        assert TINY_NOTE in text
        for fact in ("weights openai", "224 x 224", "seeds 0, 1", "2025-01-31", "kanoclip 0.1.0", "maps evaluated at"):
            assert fact in text
    doubt = "doubtful (KAnoCLIP paper), printed 20 below: CLIP-AC on VisA, image."
    assert all(doubt in texts[f"industrial.{ending}"] for ending in ("md", "tex", "html"))
    assert all("printed 20 below" in texts[f"industrial.{ending}"] for ending in ("csv", "md", "tex", "html"))
    assert re.search(r"\| clip_ac +\| \*\*56\.8\*\*", texts["main.md"])
    assert r"clip\_ac & \textbf{56.8} & - & \underline{70.0} & \underline{40.0}" in texts["main.tex"]
    assert r"\textbf{81.0 $\pm$ 1.4}" in texts["main.tex"] and r"65.0$^\ddagger$ / -" in texts["industrial.tex"]
    assert r"\multicolumn{2}{c}{headct}" in texts["main.tex"]
    cells = re.findall(r"<td>(.*?)</td>", texts["main.html"])
    assert cells[2::6] == ["<u>70.0</u>", "<b>81.0 ± 1.4</b>", "100.0"]


def test_the_csv_is_in_long_format_and_unrounded(metrics_files, published_file, tmp_path):
    run = run_of(["clip_ac", "kanoclip", "oracle"], TARGETS[:2], CONTROLS, backbone="kanoclip-tiny")
    write_tables(metrics_files, tmp_path, run, [published_file], date(2025, 1, 31))
    frame = pd.read_csv(tmp_path / "medical.csv").set_index(["method", "level"])
    assert frame.loc[("clip_ac", "image"), "mean"] == pytest.approx(56.789)
    assert frame.loc[("kanoclip", "image"), "seeds"] == "0 1" and frame.loc[("kanoclip", "image"), "std"] == 0
    assert math.isnan(frame.loc[("clip_ac", "pixel"), "mean"])
    assert frame.loc[("clip_ac", "pixel"), "note"].startswith("no masks")
    assert frame["control"].groupby("method").all().to_dict() == {"clip_ac": False, "kanoclip": False, "oracle": True}
    long = pd.read_csv(tmp_path / "industrial.csv")
    assert long[long["kind"] == "KAnoCLIP paper"]["mean"].dropna().tolist() == [65.0]


def test_an_ablation_can_be_written_alone(metrics_files, published_file, tmp_path):
    run = run_of(["clip_ac", "kanoclip"], TARGETS[:2], ablations={"steps": ("kanoclip",)}, backbone="kanoclip-tiny")
    write_tables(metrics_files, tmp_path / "steps", run, [published_file], date(2025, 1, 31), "steps")
    written = {path.name for path in (tmp_path / "steps").iterdir()}
    assert written == {"metrics.csv", "steps.csv", "steps.md", "steps.tex", "steps.html"}
    assert "clip_ac" not in (tmp_path / "steps/steps.md").read_text()


def test_latex_is_well_formed(frame, printed):
    frame = frame.replace({"clip": "clip_50%&#"})
    made = tables_of(frame, run_of(["clip_50%&#", "kanoclip", "oracle"], TARGETS[:2], CONTROLS), printed)
    for table in made.values():
        check_latex(formats.to_latex(table.render(formats.LATEX), ["100 % of a_b & c ± d‡"]))
    many = made["full"].render(formats.LATEX)
    check_latex(formats.to_latex(pd.concat([many] * 10), []))


@pytest.mark.slow
def test_latex_compiles_and_fits_a_page(metrics_files, frame, printed, published_file, tmp_path):
    """Needs pdflatex (CONTRIBUTING); without it this test fails."""
    assert shutil.which("pdflatex"), "pdflatex not found; CONTRIBUTING says how to install it"
    run = run_of(["clip_ac", "kanoclip", "oracle"], TARGETS[:2], CONTROLS, backbone="kanoclip-tiny")
    write_tables(metrics_files, tmp_path, run, [published_file], date(2025, 1, 31))
    full = tables_of(frame, run, printed)["full"].render(formats.LATEX)
    (tmp_path / "long.tex").write_text(formats.to_latex(pd.concat([full] * 20), ["a note"]))
    for tex in sorted(tmp_path.glob("*.tex")):
        document = tmp_path / f"document_{tex.stem}.tex"
        document.write_text(DOCUMENT.replace("TABLE", tex.stem))
        for _ in range(3):  # longtable needs several runs to find its widths
            command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", document.name]
            log = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
            assert log.returncode == 0, log.stdout[-2000:]
        assert "Overfull" not in log.stdout


def check_latex(text):
    """Check that environments, braces and dollars match, special characters are escaped, and rows fit the columns."""
    text = re.sub(r"^%.*\n", "", text)
    opened = []
    for command, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        assert command == "begin" or opened.pop() == name
        opened += [name] * (command == "begin")
    assert not opened
    bare = re.sub(r"\\[\\%&#_${}]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert not re.search(r"[%#±†‡]", bare) and "_" not in bare
    width = len(re.search(r"\\begin\{(?:tabular|longtable)\}\{([lc]+)\}", text)[1])
    rows = [line for line in re.sub(r"\\&", "", text).splitlines() if "&" in line]
    assert len(rows) > 2
    for row in rows:
        spanned = [int(count) for count in re.findall(r"\\multicolumn\{(\d+)\}", row)]
        assert row.count("&") + 1 + sum(spanned) - len(spanned) == width


def test_marked_rows_have_a_sign_in_every_table_and_a_note(frame, printed, metrics_files, tmp_path):
    run = run_of(["clip_ac", "kanoclip", "oracle"], TARGETS[:2], CONTROLS, backbone="kanoclip-tiny")
    marked = [
        row.model_copy(update={"marks": ("transductive",)}) if row.name == "kanoclip" else row for row in run.rows
    ]
    write_tables(metrics_files, tmp_path / "out", run.model_copy(update={"rows": tuple(marked)}), [], date(2025, 1, 31))
    note = MARKS["transductive"][1]
    for name in ("main", "full", "industrial", "medical"):
        for ending, sign in ((".md", "kanoclip§"), (".html", "kanoclip§"), (".tex", r"kanoclip\textsuperscript{\S}")):
            text = (tmp_path / "out" / name).with_suffix(ending).read_text()
            assert sign in text and note in html.unescape(text)
            assert "clip\\_ac§" not in text and "clip_ac§" not in text and "oracle§" not in text
    write_tables(metrics_files, tmp_path / "plain", run, [], date(2025, 1, 31))
    assert not any("§" in path.read_text() for path in (tmp_path / "plain").glob("*.md"))


def test_printed_numbers_of_a_marked_row_are_below_its_name(frame, printed):
    run = run_of(METHODS, TARGETS[:2], CONTROLS)
    marked = tuple(row.model_copy(update={"marks": ("extension",)}) for row in run.rows if row.name != "oracle")
    run = run.model_copy(update={"rows": (*marked, run.row("oracle"))})
    rows_shown = list(tables_of(frame, run, printed)["industrial"].render(formats.PLAIN).index)
    assert rows_shown[:2] == [("CLIP¶", "here"), ("CLIP¶", "own paper")]


def test_the_files_of_a_table_keep_a_dot_in_its_name(tmp_path):
    table = pd.DataFrame({"a": ["1"]}, index=pd.Index(["clip"], name="method"))
    formats.write(tmp_path / "v1.5", "A title", lambda style: table, ["a note"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v1.5.html", "v1.5.md", "v1.5.tex"]
