"""Test the printed numbers in the package, and the errors on wrong tables."""

import csv
from pathlib import Path

import pytest

from kanoclip.datasets.specs import dataset_names
from kanoclip.methods import method_names
from kanoclip.metrics.registry import METRICS
from kanoclip.report.cells import KANOCLIP_PAPER, OWN_PAPER
from kanoclip.report.published import COLUMNS, read_published
from kanoclip.types import InputError

FILES = sorted((Path(__file__).parents[3] / "config" / "published").glob("*.csv"))
STEPS = ("baseline", "knpl", "clip_vv", "bi_cmci", "conv_adapter")  # rows of the paper's Table 3


@pytest.fixture(scope="module")
def printed():
    return {(c.kind, c.method, c.dataset, c.level, c.metric): c for c in read_published(FILES)}


def test_every_name_is_known_and_every_doubtful_number_has_a_reason(printed):
    for cell in printed.values():
        assert cell.method in {*method_names(), *STEPS}
        assert cell.dataset in dataset_names()
        assert (cell.level, cell.metric) in METRICS
        assert 0 < cell.mean < 100 and "(" in cell.source
        assert cell.note or not cell.doubtful


def test_the_papers_tables_are_complete(printed):
    auroc = [key for key in printed if key[0] == KANOCLIP_PAPER and key[4] == "auroc"]
    # seven methods: six industrial datasets in pairs, three medical ones in pairs and three with image AUROC alone
    assert len([key for key in auroc if key[1] not in STEPS]) == 7 * (6 * 2 + 3 * 2 + 3)
    assert len([key for key in auroc if key[1] in STEPS]) == 5 * 2 * 2
    for dataset in ("mvtec_ad", "visa"):
        for level in ("image", "pixel"):
            place = (dataset, level, "auroc")
            # the last row of Table 3 is the complete method of Table 1
            assert (
                printed[KANOCLIP_PAPER, "conv_adapter", *place].mean == printed[KANOCLIP_PAPER, "kanoclip", *place].mean
            )


def test_some_numbers_agree_with_the_papers_text(printed):
    """Check the gains over the best other row that the paper states, e.g. 1.3, 1.5 (industrial), 2.1, 4.0 (medical)."""

    def gain(dataset, level):
        values = {m: printed[KANOCLIP_PAPER, m, dataset, level, "auroc"].mean for m in method_names_of_table}
        ours = values.pop("kanoclip")
        return round(ours - max(values.values()), 1)

    method_names_of_table = ["clip", "clip_ac", "winclip", "april_gan", "anomalyclip", "mvfa", "kanoclip"]
    assert [gain("mvtec_ad", "image"), gain("visa", "image")] == [1.3, 1.5]
    assert [gain("mvtec_ad", "pixel"), gain("visa", "pixel")] == [3.2, 2.2]
    assert [gain("brainmri", "image"), gain("liverct", "image")] == [2.1, 4.0]
    assert [gain("brainmri", "pixel"), gain("liverct", "pixel")] == [1.3, 2.4]


def test_numbers_that_differ_from_their_own_paper_beyond_rounding_are_doubtful(printed):
    compared = 0
    for (kind, method, *place), own in printed.items():
        copy = printed.get((KANOCLIP_PAPER, method, *place))
        if kind == OWN_PAPER and copy is not None:
            compared += 1
            assert abs(own.mean - copy.mean) <= 0.05 + 1e-9 or copy.doubtful
    assert compared == 29
    doubted = {(c.method, c.dataset, c.level) for c in printed.values() if c.doubtful and c.kind == KANOCLIP_PAPER}
    assert doubted >= {
        ("april_gan", "dagm", "pixel"),
        ("clip", "brainmri", "image"),
        ("clip_ac", "brainmri", "image"),
        ("mvfa", "liverct", "pixel"),
        ("winclip", "liverct", "pixel"),
        ("baseline", "visa", "image"),
        ("kanoclip", "mvtec_ad", "image"),
    }
    assert ("anomalyclip", "visa", "image") not in doubted


GOOD = ["clip", "CLIP", "visa", "image", "auroc", "66.4", "kanoclip_paper", "Paper (2025), Table 1", "no", ""]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": "664"}, "line 2: expected a value in percent, found 664"),
        ({"source": ""}, "line 2: the source is empty"),
        ({"title": ""}, "line 2: the title is empty"),
        ({"doubtful": "yes"}, "line 2: doubtful without a note"),
        ({"doubtful": "maybe"}, "line 2: unknown doubtful 'maybe'"),
        ({"source_kind": "own_papr"}, "line 2: unknown source_kind 'own_papr'; did you mean 'own_paper'"),
        ({"level": "pixels"}, "line 2: unknown level 'pixels'; did you mean 'pixel'"),
    ],
)
def test_wrong_lines_are_refused_in_one_line(tmp_path, changes, message):
    path = tmp_path / "published.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, list((dict(zip(COLUMNS, GOOD, strict=True)) | changes).values())])
    with pytest.raises(InputError, match=r"published\.csv, " + message):
        read_published([path])


def test_duplicate_numbers_and_other_files_are_refused(tmp_path):
    path = tmp_path / "published.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, GOOD])
    with pytest.raises(InputError, match="clip visa image auroc kanoclip_paper is given twice"):
        read_published([path, path])
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"expected the columns method,.*, found a,b"):
        read_published([path])
