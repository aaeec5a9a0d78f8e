from typing import Any

import pytest
from kanoclip.backbones.streams import Streams

from kanoclip import protocol
from kanoclip.config import Configuration, parse
from kanoclip.types import InputError


def configuration(**changes: Any) -> Configuration:
    values = {
        "targets": ["mvtec_ad", "visa", "elpv"],
        "methods": {"clip": None, "kanoclip": None, "random": None},
        "seeds": [1, 2],
    }
    return parse(Configuration, values | changes, "configuration")


def datasets(config: Configuration) -> list[str]:
    """Every dataset that is encoded."""
    return list(dict.fromkeys(dataset for _, dataset in protocol.encodings(config)))


def test_jobs_are_rows_times_targets_times_seeds() -> None:
    jobs = protocol.jobs(configuration())
    found = [(job.row.name, job.auxiliary, job.target, job.seed) for job in jobs]
    assert found == [
        *[("clip", "none", target, 1) for target in ("mvtec_ad", "visa", "elpv")],
        *[
            ("kanoclip", auxiliary, target, seed)
            for target, auxiliary in (("mvtec_ad", "visa"), ("visa", "mvtec_ad"), ("elpv", "mvtec_ad"))
            for seed in (1, 2)
        ],
        *[("random", "none", target, 1) for target in ("mvtec_ad", "visa", "elpv")],
    ]


def test_each_training_once() -> None:
    found = [(job.auxiliary, job.seed) for job in protocol.trainings(protocol.jobs(configuration()))]
    assert sorted(found) == [("mvtec_ad", 1), ("mvtec_ad", 2), ("visa", 1), ("visa", 2)]


def test_datasets_that_are_only_auxiliary_are_encoded_too() -> None:
    config = configuration(targets=["elpv"])
    assert datasets(config) == ["elpv", "mvtec_ad"]
    assert datasets(configuration(targets=["elpv"], methods={"clip": None})) == ["elpv"]


def test_zero_shot_guard() -> None:
    with pytest.raises(InputError, match="target 'mvtec_ad' is also the auxiliary dataset of 'kanoclip'"):
        protocol.jobs(configuration(auxiliary_for={}))
    allowed = configuration(auxiliary_for={}, allow_seen=True)
    assert [job.auxiliary for job in protocol.jobs(allowed) if job.target == job.auxiliary] == ["mvtec_ad"] * 2
    protocol.jobs(configuration(auxiliary_for={}, methods={"clip": None}))  # nothing is trained, nothing can be seen


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
def test_mistakes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        protocol.jobs(configuration(**changes))
    assert message in str(caught.value)


def test_own_folders_are_datasets() -> None:
    config = configuration(targets=["my_parts"], datasets={"my_parts": {"path": "somewhere"}})
    assert datasets(config) == ["my_parts", "mvtec_ad"]


def test_variants_of_a_method_are_rows() -> None:
    methods = {"kanoclip": None, "short": {"method": "kanoclip", "epochs": 2}}
    rows = protocol.rows(configuration(methods=methods))
    assert [(row.name, row.method, row.options) for row in rows] == [
        ("kanoclip", "kanoclip", {}),
        ("short", "kanoclip", {"epochs": 2}),
    ]


def test_a_dataset_is_encoded_once_for_all_rows_that_read_it() -> None:
    everything = Streams(original=(24,), local=(6, 12, 18, 24))
    found = protocol.encodings(configuration())
    assert found == {("clip-l14-518", name): everything for name in ("mvtec_ad", "visa", "elpv")}
    only = protocol.encodings(configuration(methods={"clip": None}))
    assert set(only.values()) == {Streams(original=(24,))}


def test_of_an_auxiliary_dataset_only_what_trains_is_read() -> None:
    found = protocol.encodings(configuration(targets=["elpv"]))
    assert found["clip-l14-518", "mvtec_ad"] == Streams(local=(6, 12, 18, 24))


def test_blocks_are_known_without_building() -> None:
    models = {"kanoclip-tiny": {"model": "kanoclip-tiny"}, "resnet": {"model": "RN50"}}
    config = configuration(backbones=models, backbone="kanoclip-tiny")
    assert protocol.number_of_blocks(config.backbones["kanoclip-tiny"]) == 6
    with pytest.raises(InputError, match="choose a ViT"):
        protocol.number_of_blocks(config.backbones["resnet"])


def test_a_published_recipe_brings_options_and_a_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert protocol.encodings(config)["clip-published", "elpv"] == Streams(original=(12,))


def test_ablations_add_rows_but_not_to_the_main_table() -> None:
    ablations = {"parts": {"clip": None, "short": {"method": "kanoclip", "epochs": 2}, "kanoclip": None}}
    config = configuration(methods={"clip": None, "kanoclip": {"epochs": 3}}, ablations=ablations)
    assert [row.name for row in protocol.rows(config)] == ["clip", "kanoclip"]
    found = [(row.name, row.options) for row in protocol.ablation_rows(config, "parts")]
    assert found == [("clip", {}), ("short", {"epochs": 2}), ("kanoclip", {"epochs": 3})]
    assert len(protocol.all_jobs(config)) == len(protocol.jobs(config)) + 3 * 2  # targets x seeds of the new row
    clash = configuration(ablations={"parts": {"kanoclip": {"epochs": 1}}})
    with pytest.raises(InputError, match=r"ablations.parts.kanoclip: another row has this name"):
        protocol.all_rows(clash)


def test_random_weights_make_a_control() -> None:
    backbones = {"kanoclip-tiny": {"model": "kanoclip-tiny", "weights": "random:0"}}
    rows = protocol.rows(configuration(backbones=backbones, backbone="kanoclip-tiny"))
    assert all(row.control for row in rows)
