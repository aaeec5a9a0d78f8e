from datetime import date
from typing import Any

import pytest

from kanoclip import protocol
from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import tower_shape
from kanoclip.backbones.taps import Tap
from kanoclip.checkpoints import read_record
from kanoclip.config import BackboneConfig, Configuration, parse
from kanoclip.rows import SHIPPED
from kanoclip.types import InputError

TARGETS = ["mvtec_ad", "visa", "elpv"]


def configuration(**changes: Any) -> Configuration:
    values = {
        "targets": TARGETS,
        "methods": {"clip": None, "kanoclip": None, "random": None},
        "seeds": [1, 2],
    }
    return parse(Configuration, values | changes, "configuration")


def datasets(config: Configuration) -> list[str]:
    """Return every dataset that is read, as a target or for training."""
    jobs = protocol.all_jobs(config)
    names = [name for job in jobs for name in (job.target, job.auxiliary) if name != protocol.NO_AUXILIARY]
    return list(dict.fromkeys(names))


def test_jobs_are_rows_times_targets_times_seeds() -> None:
    jobs = protocol.jobs(configuration())
    found = [(job.row, job.auxiliary, job.target, job.seed) for job in jobs]
    assert found == [
        *[("clip", "none", target, 1) for target in ("mvtec_ad", "visa", "elpv")],
        *[
            ("kanoclip", auxiliary, target, seed)
            for target, auxiliary in (("mvtec_ad", "visa"), ("visa", "mvtec_ad"), ("elpv", "mvtec_ad"))
            for seed in (1, 2)
        ],
        *[("random", "none", target, 1) for target in ("mvtec_ad", "visa", "elpv")],
    ]


def test_a_transductive_recipe_marks_its_row() -> None:
    methods = {
        "aa_clip": None,
        "as_printed": {"method": "aa_clip", "recipe": "published"},
        "one_by_one": {"method": "aa_clip", "recipe": "published", "normalisation": "image"},
    }
    marks = protocol.describe(configuration(methods=methods)).marks
    assert marks == {"aa_clip": (), "as_printed": ("transductive",), "one_by_one": ()}


def test_each_training_runs_once() -> None:
    found = protocol.describe(configuration()).trainings
    assert [(training.row, training.auxiliary, training.seeds) for training in found] == [
        ("kanoclip", "visa", (1, 2)),
        ("kanoclip", "mvtec_ad", (1, 2)),
    ]


def test_datasets_that_are_only_auxiliary_are_read_too() -> None:
    config = configuration(targets=["elpv"])
    assert datasets(config) == ["elpv", "mvtec_ad"]
    assert datasets(configuration(targets=["elpv"], methods={"clip": None})) == ["elpv"]


def test_a_target_that_is_the_auxiliary_dataset_is_refused() -> None:
    with pytest.raises(InputError, match="target 'mvtec_ad' is also the auxiliary dataset of 'kanoclip'"):
        protocol.jobs(configuration(auxiliary_for={}))
    allowed = configuration(auxiliary_for={}, allow_seen=True)
    assert [job.auxiliary for job in protocol.jobs(allowed) if job.target == job.auxiliary] == ["mvtec_ad"] * 2
    protocol.jobs(configuration(auxiliary_for={}, methods={"clip": None}))  # training-free rows have seen no dataset


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {"kanoklip": None}}, "unknown method 'kanoklip'; did you mean 'kanoclip'?"),
        (
            {"methods": {"clip": {"temprature": 1}}},
            "methods.clip: unknown key 'temprature'; did you mean 'temperature'?",
        ),
        ({"methods": {"clip": {"backbone": "b"}}}, "unknown backbone 'b'"),
        ({"targets": ["mvtec"]}, "unknown dataset 'mvtec'; did you mean 'mvtec_ad'?"),
        ({"auxiliary": "zzz"}, "unknown dataset 'zzz'; known: "),
        ({"datasets": {"my_parts": {}}}, "datasets.my_parts: a dataset of your own needs a path"),
        ({"datasets": {"viza": {}}}, "unknown dataset 'viza'; did you mean 'visa'?"),
        ({"datasets": {"visa": {"class_names": {"a": "b"}}}}, "class_names are only for a dataset of your own"),
    ],
)
def test_mistakes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        protocol.jobs(configuration(**changes))
    assert message in str(caught.value)


def test_own_folders_are_datasets() -> None:
    config = configuration(targets=["my_parts"], datasets={"my_parts": {"path": "somewhere"}})
    assert datasets(config) == ["my_parts", "mvtec_ad"]


def from_checkpoint(**changes: Any) -> Configuration:
    values = {
        "methods": {"clip": None, "kanoclip": {"checkpoint": "embedded"}},
        "backbones": {"kanoclip-tiny-128": {"model": "kanoclip-tiny", "weights": "embedded", "image_size": 128}},
        "backbone": "kanoclip-tiny-128",
        "targets": ["elpv"],
    }
    return configuration(**values | changes)


def test_a_row_from_a_checkpoint_is_scored_once_and_not_trained() -> None:
    record = read_record(SHIPPED)
    run = protocol.describe(from_checkpoint())
    row = run.row("kanoclip")
    assert run.trainings == [] and run.taps == {}
    assert [(job.auxiliary, job.seed) for job in run.jobs if job.row == "kanoclip"] == [
        (record["auxiliary"], record["seed"])
    ]
    assert row.options == record["options"] and {"cls/4", "vv/4"} <= set(row.reads)
    (one,) = run.passes
    assert [(of.row, of.checkpoint) for of in run.rows_of(one)] == [("clip", None), ("kanoclip", "embedded")]
    assert "trained before, from a checkpoint: kanoclip (embedded)" in run.facts(run.main, date(2024, 1, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"methods": {"kanoclip": {"checkpoint": "embedded", "epochs": 1}}},
            "methods.kanoclip: a checkpoint has its options; leave out epochs",
        ),
        (
            {"methods": {"april_gan": {"checkpoint": "embedded"}}},
            "expected a checkpoint of april_gan, found one of kanoclip",
        ),
        ({"methods": {"kanoclip": {"checkpoint": "none.safetensors"}}}, "none.safetensors: expected a checkpoint"),
        ({"targets": ["synthetic_auxiliary"]}, "target 'synthetic_auxiliary' is also the auxiliary dataset"),
    ],
)
def test_mistakes_with_a_checkpoint_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        protocol.describe(from_checkpoint(**changes))
    assert message in str(caught.value)


def test_the_key_folder_defines_a_dataset_and_names_the_run() -> None:
    def of(**values: Any) -> Configuration:
        return parse(Configuration, {"methods": {"clip": None}, **values}, "configuration")

    config = of(folder="photos/my parts/", class_name="metal plate")
    assert config.targets == ("my_parts",)
    assert config.datasets["my_parts"].path == "photos/my parts"
    assert config.datasets["my_parts"].class_names == {"my_parts": "metal plate"}
    assert parse(Configuration, config.model_dump(mode="json"), "again") == config
    assert of(folder="photos/my parts").run == config.run != of(folder="others/my parts").run
    assert config.run.startswith("my_parts-")
    assert of(folder="photos", run="mine").run == "mine"
    assert of(folder="mine/mpdd").targets == ("mpdd_folder",)  # not the shipped dataset, which has a layout of its own
    limited = of(folder="photos", datasets={"photos": {"limit": 3}, "elpv": {"limit": 4}})
    assert limited.datasets["photos"].limit == 3 and limited.datasets["elpv"].limit == 4
    with pytest.raises(InputError, match="'folder'"):
        of(folder=3, targets=["elpv"])


def test_variants_of_a_method_are_rows() -> None:
    methods = {"kanoclip": None, "short": {"method": "kanoclip", "epochs": 2}}
    rows = protocol.rows(configuration(methods=methods))
    assert [(row.name, row.method, row.options) for row in rows] == [
        ("kanoclip", "kanoclip", {}),
        ("short", "kanoclip", {"epochs": 2}),
    ]


STAGES = frozenset(Tap("vv", block) for block in (6, 12, 18, 24))
LAST = Tap("cls", 24)


def test_only_datasets_named_in_the_configuration_are_cached() -> None:
    assert protocol.encodings(configuration(cache=[])) == {}
    on_auxiliary = protocol.encodings(configuration())
    assert on_auxiliary == {("clip-l14-518", name): STAGES | {LAST} for name in ("visa", "mvtec_ad")}
    on_targets = protocol.encodings(configuration(methods={"clip": None}, cache=["targets"]))
    assert on_targets == {("clip-l14-518", name): frozenset({Tap("tokens", 24)}) for name in TARGETS}


def test_a_dataset_is_encoded_once_for_all_rows_that_read_it() -> None:
    methods = {"clip": None, "kanoclip": None, "april_gan": None}
    found = protocol.encodings(configuration(methods=methods, cache=["auxiliary", "targets"]))
    original = frozenset(Tap("tokens", block) for block in (6, 12, 18, 24))
    assert found == {("clip-l14-518", name): STAGES | {LAST} | original for name in TARGETS}


def test_of_an_auxiliary_dataset_only_taps_for_training_are_cached() -> None:
    """APRIL-GAN does not train on the class token, and with mosaics not on unchanged images."""
    found = protocol.encodings(configuration(targets=["elpv"], methods={"april_gan": None}))
    assert found == {("clip-l14-518", "mvtec_ad"): frozenset(Tap("tokens", block) for block in (6, 12, 18, 24))}
    assert protocol.encodings(configuration(targets=["elpv"], methods={"april_gan": {"mosaic": 0.2}})) == {}


def test_the_shape_of_a_tower_is_known_without_building_it(tiny_config: BackboneConfig, backbone: Backbone) -> None:
    assert tower_shape(tiny_config) == backbone.shape
    large = tower_shape(BackboneConfig())
    assert (large.layers, large.taps, large.width, large.joint_width, large.grid) == (
        24, (6, 12, 18, 24), 1024, 768, (37, 37),
    )  # fmt: skip
    with pytest.raises(InputError, match="choose a ViT"):
        tower_shape(BackboneConfig(model="RN50"))
    with pytest.raises(InputError, match="did you mean 'ViT-L-1"):
        tower_shape(BackboneConfig(model="ViT-L-41"))
    with pytest.raises(InputError, match="must be at most 6, its number of blocks"):
        tower_shape(BackboneConfig(model="kanoclip-test", taps=(2, 9)))


def test_a_pass_joins_all_rows_and_seeds_of_a_backbone_and_target() -> None:
    methods = {"clip": None, "kanoclip": None, "on_b16": {"method": "clip", "backbone": "b16"}}
    both = {"clip-l14-518": {}, "b16": {"model": "ViT-B-16", "image_size": 224}}
    run = protocol.describe(configuration(methods=methods, backbones=both))
    passes = run.passes
    assert sorted((found.backbone, found.target) for found in passes) == sorted(
        (backbone, target) for backbone in both for target in TARGETS
    )
    for found in passes:
        names = [(job.row, job.seed) for job in found.jobs]
        assert names == (
            [("on_b16", 1)] if found.backbone == "b16" else [("clip", 1), ("kanoclip", 1), ("kanoclip", 2)]
        )
    assert sorted(run.jobs, key=str) == sorted((job for found in passes for job in found.jobs), key=str)


def test_the_key_only_limits_the_rows() -> None:
    config = configuration(only=["kanoclip"])
    assert {job.row for job in protocol.jobs(config)} == {"kanoclip"}
    with pytest.raises(InputError, match="unknown row in only 'kanoklip'; did you mean 'kanoclip'?"):
        protocol.jobs(configuration(only=["kanoklip"]))


def test_published_options_can_depend_on_the_auxiliary_dataset() -> None:
    methods = {"april_gan": {"recipe": "published", "mosaic": 0.5, "backbone": "clip-l14-518"}}
    config = configuration(methods=methods)
    (row,) = protocol.rows(config)
    on = {name: row.options_on(name) for name in ("mvtec_ad", "visa")}
    assert (on["mvtec_ad"]["epochs"], on["visa"]["epochs"]) == (3, 15)
    # options of the row take precedence over published ones
    assert on["mvtec_ad"]["mosaic"] == on["visa"]["mosaic"] == 0.5
    ours = configuration(methods={"april_gan": None})
    assert protocol.rows(ours)[0].options_on("visa") == {}


def test_a_published_recipe_sets_options_and_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = protocol.method_class("clip")
    monkeypatch.setattr(kind, "published", {"temperature": 0.01})
    monkeypatch.setattr(kind, "published_backbone", {"model": "ViT-B-16", "weights": "openai", "image_size": 240})
    methods = {
        "clip": None,
        "as_published": {"method": "clip", "recipe": "published"},
        "warmer": {"method": "clip", "recipe": "published", "temperature": 0.5, "backbone": "clip-l14-518"},
    }
    config = configuration(methods=methods)
    found = [(row.recipe, row.options, row.backbone) for row in protocol.rows(config)]
    assert found == [
        ("protocol", {}, "clip-l14-518"),
        ("published", {"temperature": 0.01}, "clip-published"),
        ("published", {"temperature": 0.5}, "clip-l14-518"),
    ]
    assert protocol.backbones(config)["clip-published"].model == "ViT-B-16"
    cached = config.model_copy(update={"cache": ("targets",)})
    assert protocol.encodings(cached)["clip-published", "elpv"] == {Tap("tokens", 12)}


def test_ablations_add_rows_but_not_to_the_main_table() -> None:
    ablations = {"parts": {"clip": None, "short": {"method": "kanoclip", "epochs": 2}, "kanoclip": None}}
    config = configuration(methods={"clip": None, "kanoclip": {"epochs": 3}}, ablations=ablations)
    assert [row.name for row in protocol.rows(config)] == ["clip", "kanoclip"]
    found = [(row.name, row.options) for row in protocol.ablation_rows(config, "parts")]
    assert found == [("clip", {}), ("short", {"epochs": 2}), ("kanoclip", {"epochs": 3})]
    assert len(protocol.all_jobs(config)) == len(protocol.jobs(config)) + 3 * 2  # targets times seeds of the new row
    clash = configuration(ablations={"parts": {"kanoclip": {"epochs": 1}}})
    with pytest.raises(InputError, match=r"ablations.parts.kanoclip: another row has this name"):
        protocol.all_rows(clash)


def test_rows_with_random_weights_are_controls() -> None:
    backbones = {"kanoclip-tiny": {"model": "kanoclip-tiny", "weights": "random:0"}}
    rows = protocol.rows(configuration(backbones=backbones, backbone="kanoclip-tiny"))
    assert all(row.control for row in rows)


def test_a_second_tower_that_the_backbone_lacks_is_refused() -> None:
    methods = {"crane_plus": {}}
    message = "methods.crane_plus: it reads a second tower called dino, which backbone clip-l14-518 does not have"
    with pytest.raises(InputError, match=message):
        protocol.rows(configuration(methods=methods))
    tower = {"model": "vit_tiny_patch16_224", "weights": "random:0"}
    backbones = {"clip-l14-518": {"towers": {"dino": tower}}}
    (row,) = protocol.rows(configuration(methods=methods, backbones=backbones))
    assert "dino:tokens/12" in row.reads


def test_the_published_recipe_of_crane_plus_sets_its_second_tower() -> None:
    config = configuration(methods={"crane_plus": {"recipe": "published"}})
    (row,) = protocol.rows(config)
    tower = protocol.backbones(config)[row.backbone].towers["dino"]
    assert tower.model == "vit_base_patch14_reg4_dinov2.lvd142m" and "dino:tokens/12" in row.reads


def test_under_only_a_row_that_an_ablation_names_is_still_described() -> None:
    config = configuration(
        methods={"clip": None, "kanoclip": None, "winclip": None},
        ablations={"a": {"kanoclip": None, "clip_ac": None}},
        only=["clip"],
    )
    run = protocol.describe(config)
    assert run.main == ("clip",)
    assert [row.name for row in run.rows] == ["clip", "kanoclip", "clip_ac"]  # winclip is in no table
    assert {job.row for job in run.jobs_of(run.ablations["a"])} == {"kanoclip", "clip_ac"}


def test_the_facts_state_the_subset_of_an_auxiliary_dataset() -> None:
    limits = {"visa": {"limit": 3}, "mvtec_ad": {"limit": 4}}
    config = configuration(targets=["visa"], datasets=limits, auxiliary_for={})
    run = protocol.describe(config)
    facts = "; ".join(run.facts(["kanoclip"], date(2026, 1, 31)))
    assert "at most 3 images per class and label of visa; at most 4 images per class and label of mvtec_ad" in facts
    assert "mvtec_ad" not in "; ".join(run.facts(["clip"], date(2026, 1, 31)))  # it was not trained on anything
