import re
from fnmatch import filter as matching
from pathlib import Path

import pytest
import yaml

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig, Configuration, KnowledgeConfig, parse
from kanoclip.methods.kanoclip_paper import KAnoCLIP
from kanoclip.methods.kanoclip_paper.options import KAnoCLIPOptions
from kanoclip.types import InputError

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"knowledge_prompts": False, "bi_cmci": False, "conv_adapter": False},
            "knowledge_prompts, bi_cmci and conv_adapter are all false, so nothing can be learned; the baseline of "
            "Table 3 is the method clip",
        ),
        (
            {"image_score": "max"},
            "image_score max leaves the Conv-Adapter without a loss; set conv_adapter false or global_loss_on "
            "probability",
        ),
        ({"width": 60}, "width must be a multiple of heads, found 60 and 8"),
        ({"width": 56, "heads": 7, "deform_groups": 3}, "width must be a multiple of deform_groups, found 56 and 3"),
        ({"deform_kernel": 4}, "deform_kernel must be odd, found 4"),
        (
            {"local_stream": False, "global_from": "local_mean"},
            "global_from local_mean needs local_stream true; or set global_from original",
        ),
        ({"deep_depth": 2, "prompt_length": 3}, "deep_length must be at most prompt_length, found 4 and 3"),
        ({"norm": "sum"}, "'norm': input should be 'mean_probability', 'softmax_of_mean' or 'min_max', found 'sum'"),
        ({"normal_words": []}, "'normal_words': tuple should have at least 1 item after validation, not 0, found []"),
    ],
)
def test_invalid_options_are_refused_in_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        parse(KAnoCLIPOptions, options, "methods.kanoclip")
    assert str(error.value) == f"methods.kanoclip: {message}"


@pytest.mark.parametrize(
    "options",
    [
        {"local_stream": False, "bi_cmci": False, "conv_adapter": False},  # + KnPL
        {"bi_cmci": False, "conv_adapter": False},  # + CLIP-VV
        {"conv_adapter": False},  # + Bi-CMCI
        {},  # + Conv-Adapter
        {"image_score": "max", "conv_adapter": False},
        {"image_score": "max", "global_loss_on": "probability"},
        {"width": 60, "bi_cmci": False},  # not built, so not checked
        {"deform_kernel": 4, "patch_attention": "full"},
        {"prompt_length": 3},
    ],
)
def test_valid_combinations_are_accepted(options: dict[str, object]) -> None:
    parse(KAnoCLIPOptions, options, "methods.kanoclip")


def test_prompts_deeper_than_the_text_tower_are_refused(backbone: Backbone) -> None:
    options = KAnoCLIPOptions(deep_depth=backbone.text_layers + 1)
    with pytest.raises(InputError, match=f"deep_depth must be at most {backbone.text_layers}, .* found"):
        KAnoCLIP(backbone, options, seed=0)


@pytest.mark.parametrize(
    ("options", "taps"),
    [
        ({}, "vv/2 vv/4 cls/6"),
        ({"local_stream": False}, "tokens/2 tokens/4 cls/6"),
        ({"bi_cmci": False}, "vv/4 cls/6"),
        ({"bi_cmci": False, "unfused_taps": "all"}, "vv/2 vv/4 cls/6"),
        ({"global_from": "local"}, "vv/2 vv/4 vv/6"),
        ({"global_from": "local_mean"}, "vv/2 vv/4 vv/6"),
        ({"adapter_depthwise": True}, "vv/2 vv/4 tokens/6"),
        ({"adapter_depthwise": True, "conv_adapter": False}, "vv/2 vv/4 cls/6"),
        ({"adapter_depthwise": True, "local_stream": False}, "tokens/2 tokens/4 tokens/6"),
        ({"adapter_depthwise": True, "global_from": "local"}, "vv/2 vv/4 vv/6"),
    ],
)
def test_reads_depend_on_the_options(options: dict[str, object], taps: str) -> None:
    tower = TowerShape(6, (2, 4), vv_start=2, width=128, joint_width=128, grid=(4, 4))
    assert KAnoCLIP.reads(KAnoCLIPOptions(**options), tower) == {Tap.parse(tap) for tap in taps.split()}


def test_each_row_of_table_3_in_the_documentation_adds_one_part() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "kanoclip.md").read_text(encoding="utf-8"), re.DOTALL)
    rows = parse(Configuration, {**yaml.safe_load(text), "targets": ["visa"]}, "docs/kanoclip.md").methods
    parts = "knowledge_prompts", "local_stream", "bi_cmci", "conv_adapter"
    options = [parse(KAnoCLIPOptions, row.options, name) for name, row in rows.items() if name != "clip"]
    assert [[getattr(row, part) for part in parts].count(True) for row in options] == [1, 2, 3, 4]
    assert [getattr(options[k], part) for k, part in enumerate(parts)] == [True] * 4


def test_every_key_in_the_documentation_exists() -> None:
    table = (DOCS / "reading-the-paper.md").read_text(encoding="utf-8").split("## The tables")[0]
    rows = [line.split("|")[-2] for line in table.splitlines() if line.startswith("|")]  # the last column
    named = [key for cell in rows for key in re.findall("`(.+?)`", cell)]
    known = [key for model in (KAnoCLIPOptions, BackboneConfig, KnowledgeConfig) for key in model.model_fields]
    assert len(named) > 25
    assert [key for key in named if not matching(known, key)] == []
