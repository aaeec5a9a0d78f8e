import math
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.checkpoints import load_method, save_checkpoint
from kanoclip.methods.base import Batch
from kanoclip.methods.kanoclip_paper import KAnoCLIP
from kanoclip.methods.kanoclip_paper.options import KAnoCLIPOptions
from kanoclip.types import InputError

SMALL = {"prompt_length": 4, "width": 16, "heads": 2, "deform_groups": 2, "deform_stride": 2, "deform_kernel": 3}
KNOWLEDGE = {name: [f"a {name} with a crack", f"a broken {name}"] for name in ("nut", "bolt")}
IMAGES = {"b": ["a scratch at the top"], "d": ["a dark hole", "a bright spot in the middle"]}
# the rows of Table 3, and every option once
VARIANTS = {
    "all": {},
    "knowledge prompts": {"local_stream": False, "bi_cmci": False, "conv_adapter": False},
    "local stream": {"bi_cmci": False, "conv_adapter": False},
    "bi_cmci": {"conv_adapter": False},
    "hand-written": {"knowledge_prompts": False},
    "only the adapter": {"knowledge_prompts": False, "bi_cmci": False, "local_stream": False},
    "prompts": {"prefix_per_word": True, "object_agnostic": True, "deep_depth": 3, "deep_length": 2},
    "joint": {"tap_space": "joint", "cross_attention": "shared", "layer_scale": 0.5, "feed_forward": True},
    "own": {"patch_attention": "full", "text_attention": False, "norm": "softmax_of_mean"},
    "clip": {"output_space": "clip", "patch_attention": "none", "adapter_residual": True, "norm": "min_max"},
    "raw and joint": {"output_space": "clip", "tap_space": "joint", "deform_range": 2.0},
    "local": {"global_from": "local", "adapter_depthwise": True, "image_score": "probability"},
    "mean patch": {"global_from": "local_mean", "image_score": "max", "global_loss_on": "probability"},
    "knowledge": {"knowledge_form": "pull", "knowledge_scope": "image", "adapter_depthwise": True},
}
Build = Callable[..., KAnoCLIP]


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> dict[str, object]:
    return VARIANTS[request.param]


@pytest.fixture
def build(backbone: Backbone) -> Build:
    """Return a function that builds a method with random parameters, including those initialised with zeros."""

    def make(**options: object) -> KAnoCLIP:
        torch.manual_seed(0)
        method = KAnoCLIP(backbone, KAnoCLIPOptions(**SMALL, bottleneck=8, **options), seed=0)
        for parameter in method.learned().values():
            if parameter.abs().sum() == 0:
                torch.nn.init.normal_(parameter, std=0.1)
        method.learn_knowledge(KNOWLEDGE, IMAGES)
        return method.eval()

    return make


@pytest.fixture
def batch(backbone: Backbone) -> Batch:
    g = torch.Generator().manual_seed(1)
    features = {
        Tap(kind, tap): torch.randn(4, 17, 128, generator=g) for kind in ("vv", "tokens") for tap in backbone.quarters
    }
    features[Tap("cls", backbone.layers)] = torch.randn(4, 128, generator=g)
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    masks[1, 4:9, 4:9] = masks[3, 20:30, 1:8] = True
    return Batch(["a", "b", "c", "d"], ["nut", "nut", "bolt", "bolt"], features, torch.tensor([0, 1, 0, 1]), masks)


@torch.no_grad()
def similarities(method: KAnoCLIP, batch: Batch) -> Tensor:
    """Return the similarities (K, B, P, 2) of the stages."""
    text = torch.stack([method.text([name])[0] for name in batch.class_names])
    return torch.stack([method._similarity(tap, batch.features, text) for tap in method.backbone.quarters])


@torch.no_grad()
def test_every_variant_gives_maps_and_scores_in_range(build: Build, batch: Batch, variant: dict[str, object]) -> None:
    output = build(**variant)(batch)
    assert output.map.shape == (4, 4, 4)
    for values in (output.map, output.image_score):
        assert values.min() >= 0 and values.max() <= 1 and values.std() > 0


@torch.no_grad()
def test_every_variant_survives_a_round_trip_through_a_checkpoint(
    build: Build, batch: Batch, backbone: Backbone, variant: dict[str, object], tmp_path: Path
) -> None:
    method = build(**variant)
    record = {"method": "kanoclip", "options": method.options.model_dump(mode="json"), "auxiliary": "parts", "seed": 0}
    save_checkpoint(tmp_path / "checkpoint.safetensors", method, record)
    loaded = load_method(tmp_path / "checkpoint.safetensors", backbone, "kanoclip")
    for before, after in zip(vars(method(batch)).values(), vars(loaded(batch)).values(), strict=True):
        assert torch.equal(before, after)


def test_every_learned_parameter_gets_a_gradient(build: Build, batch: Batch, variant: dict[str, object]) -> None:
    method = build(margin=2, **variant)  # so that the hinge is active
    sum(method.losses(batch).values()).backward()
    groups = {group["name"]: group["params"] for phase in method.phases() for group in phase.groups}
    learned = method.learned()
    assert {id(p) for group in groups.values() for p in group} == {id(p) for p in learned.values()}
    assert ("prompts" in groups) == variant.get("knowledge_prompts", True)
    still = [name for name, p in learned.items() if p.grad is None or p.grad.abs().sum() == 0]
    # softmax cancels the bias of keys; in_proj contains it among others, the deformable key has its own
    assert [name for name in still if not name.endswith("patch_attention.inner.key.bias")] == []


@torch.no_grad()
def test_without_bi_cmci_patches_and_text_are_compared_in_clips_space(
    build: Build, batch: Batch, backbone: Backbone
) -> None:
    kinds = {True: "vv", False: "tokens"}
    read = {"all": backbone.quarters, "last": backbone.quarters[-1:]}
    for (local_stream, kind), (unfused_taps, taps) in product(kinds.items(), read.items()):
        method = build(bi_cmci=False, local_stream=local_stream, unfused_taps=unfused_taps)
        found = method(batch).map.flatten(1)
        for number, name in enumerate(batch.class_names):
            text = method.prompts(backbone, [name])[0]
            for patch in range(16):
                odds = []
                for tap in taps:
                    token = backbone.project(batch.features[Tap(kind, tap)][number, 1 + patch])
                    normal, abnormal = (math.exp(float(token @ vector) / 0.07) for vector in text)
                    odds.append(abnormal / (normal + abnormal))
                assert found[number, patch].item() == pytest.approx(sum(odds) / len(taps), abs=1e-5)


@torch.no_grad()
def test_without_knowledge_prompts_the_text_equals_that_of_the_method_clip(build: Build, backbone: Backbone) -> None:
    expected = backbone.encode_text(["a photo of a normal nut", "a photo of an anomalous nut"])
    found = build(knowledge_prompts=False).text(["bolt", "nut"])[1]
    torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_object_agnostic_prompts_ignore_the_class(build: Build) -> None:
    nut, bolt = build(object_agnostic=True).text(["nut", "bolt"])
    assert torch.equal(nut, bolt)
    nut, bolt = build().text(["nut", "bolt"])
    assert not torch.allclose(nut, bolt)


@torch.no_grad()
@pytest.mark.parametrize("norm", ["mean_probability", "softmax_of_mean", "min_max"])
def test_the_map_follows_the_option_norm(build: Build, batch: Batch, norm: str) -> None:
    """Compute equations 9 and 10 before the Gaussian, one patch at a time."""
    method = build(norm=norm, temperature=0.2)
    cosines = similarities(method, batch).tolist()  # [stage][image][patch][polarity]
    found = method(batch).map.flatten(1)
    stages = range(4)
    for number in range(4):
        for patch in range(16):
            of_patch = [cosines[stage][number][patch] for stage in stages]
            if norm == "mean_probability":
                normal, abnormal = (
                    sum(math.exp(c[k] / 0.2) / (math.exp(c[0] / 0.2) + math.exp(c[1] / 0.2)) for c in of_patch) / 4
                    for k in (0, 1)
                )
            elif norm == "softmax_of_mean":
                mean = [sum(c[k] for c in of_patch) / 4 for k in (0, 1)]
                abnormal = 1 / (1 + math.exp((mean[0] - mean[1]) / 0.2))
                normal = 1 - abnormal
            else:
                sums = [[sum(cosines[s][number][p][k] for s in stages) for p in range(16)] for k in (0, 1)]
                normal, abnormal = ((of[patch] - min(of)) / (max(of) - min(of)) for of in sums)
            assert found[number, patch].item() == pytest.approx((abnormal + 1 - normal) / 2, abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("score", ["sum", "probability", "max"])
def test_image_score_is_equations_10_to_12(build: Build, batch: Batch, backbone: Backbone, score: str) -> None:
    method = build(image_score=score, global_loss_on="probability", temperature=0.2, sigma=50)
    output = method(batch)
    full = F.interpolate(output.map[:, None], (32, 32), mode="bilinear")[:, 0].numpy()
    peaks = torch.tensor([gaussian_filter(m, 50 * 32 / 518).max() for m in full])
    for number, name in enumerate(batch.class_names):
        image = method.adapter(backbone.project(batch.features[Tap("cls", backbone.layers)][number : number + 1]))[0]
        normal, abnormal = (math.exp(float(image @ vector) / 0.2) for vector in method.text([name])[0])
        probability = abnormal / (normal + abnormal)
        expected = {"sum": (probability + peaks[number]) / 2, "probability": probability, "max": peaks[number]}
        assert output.image_score[number].item() == pytest.approx(float(expected[score]), abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("source", ["original", "local", "local_mean"])
def test_the_global_feature_follows_its_option(build: Build, batch: Batch, backbone: Backbone, source: str) -> None:
    last = batch.features[Tap("vv", backbone.layers)]
    original = batch.features[Tap("tokens", backbone.layers)]
    batch.features[Tap("cls", backbone.layers)] = original[:, 0]  # the output of the tower
    token = {"original": original[:, 0], "local": last[:, 0], "local_mean": sum(last[:, 1:].unbind(1)) / 16}
    image = backbone.project(token[source])
    plain = build(global_from=source, conv_adapter=False)._global_feature(batch.features)
    torch.testing.assert_close(plain, image, atol=1e-5, rtol=1e-5)
    method = build(global_from=source, adapter_depthwise=True)
    patches = backbone.project((original if source == "original" else last)[:, 1:]).view(4, 4, 4, -1)
    found = method._global_feature(batch.features)
    torch.testing.assert_close(found, method.adapter(image, patches), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["mean_probability", "min_max"])
def test_losses_are_equations_13_to_15(build: Build, batch: Batch, norm: str) -> None:
    """Use min-max normalisation, where M_n differs from 1 - M_a."""
    weights = {"global_weight": 2.0, "local_weight": 3.0}
    method = build(norm=norm, **weights)
    with torch.no_grad():
        losses, output = method.losses(batch), method(batch)
        total = similarities(method, batch)
    score, label = output.image_score, batch.labels.float()
    bce = -(label * score.log() + (1 - label) * (1 - score).log()).mean()
    torch.testing.assert_close(losses["global"], 2 * bce, atol=1e-5, rtol=1e-5)
    if norm == "min_max":
        total = total.sum(0)  # (B, P, 2)
        maps = (total - total.amin(1, keepdim=True)) / (total.amax(1, keepdim=True) - total.amin(1, keepdim=True))
    else:
        maps = (total / 0.07).softmax(-1).mean(0)
    maps = F.interpolate(maps.transpose(1, 2).reshape(4, 2, 4, 4), (32, 32), mode="bilinear")
    for name, polarity, truth in (("dice_normal", 0, ~batch.masks), ("dice_abnormal", 1, batch.masks)):
        p, t = maps[:, polarity], truth.float()
        expected = [1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, t, strict=True)]
        torch.testing.assert_close(losses[name], 3 * sum(expected) / 4, atol=1e-5, rtol=1e-5)
    true = torch.where(batch.masks, maps[:, 1], 1 - maps[:, 1]).clamp(min=1e-12)
    torch.testing.assert_close(losses["focal"], -3 * ((1 - true) ** 2 * true.log()).mean(), atol=1e-5, rtol=1e-5)
    assert set(losses) == {"knowledge", "global", "focal", "dice_normal", "dice_abnormal"}


@torch.no_grad()
def test_the_global_loss_can_be_on_the_probability(build: Build, batch: Batch) -> None:
    method = build(global_loss_on="probability")
    probability = build(image_score="probability")(batch).image_score
    expected = F.binary_cross_entropy(probability, batch.labels.float())
    torch.testing.assert_close(method.losses(batch)["global"], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("scope", ["class", "image"])
@pytest.mark.parametrize("form", ["hinge", "pull"])
def test_knowledge_loss_is_equations_2_and_3(
    build: Build, batch: Batch, backbone: Backbone, scope: str, form: str
) -> None:
    method = build(knowledge_scope=scope, knowledge_form=form, margin=0.1, knowledge_weight=0.5)
    if scope == "class":
        described = [(name, KNOWLEDGE[name]) for name in ("nut", "bolt")]
    else:
        described = [
            (name, IMAGES.get(image, KNOWLEDGE[name])) for image, name in zip("abcd", batch.class_names, strict=True)
        ]
    values = []
    for name, texts in described:
        k = sum(backbone.encode_text([text])[0] for text in texts)
        normal, abnormal = (float((k / k.norm() - vector).norm()) for vector in method.text([name])[0])
        values.append(abnormal if form == "pull" else max(0.0, abnormal - normal + 0.1))
    assert method.losses(batch)["knowledge"].item() == pytest.approx(0.5 * sum(values) / len(values), abs=1e-5)
    active = sum(value > 0 for value in values) / len(values)
    assert method.diagnostics() == {"knowledge_active": active}


@torch.no_grad()
def test_an_inactive_hinge_is_not_counted(build: Build, batch: Batch) -> None:
    method = build(prefix_per_word=True)
    learned = method.prompts.context.clone()  # normal, normal, abnormal, abnormal
    method.losses(batch)
    before = method.diagnostics()["knowledge_active"]
    method.prompts.words = method.prompts.words[::-1]
    method.prompts.context.copy_(learned.roll(2, 0))  # swap the normal and the abnormal prompts
    method.losses(batch)
    assert before + method.diagnostics()["knowledge_active"] == 1


def test_without_learned_prompts_there_is_no_knowledge_loss(build: Build, batch: Batch) -> None:
    method = build(knowledge_prompts=False)
    assert "knowledge" not in method.losses(batch)
    assert method.diagnostics() == {}


def test_image_scope_needs_descriptions_of_images(build: Build) -> None:
    method = build(knowledge_scope="image")
    with pytest.raises(InputError, match="knowledge_scope image needs descriptions of single images, found none"):
        method.learn_knowledge(KNOWLEDGE)


def test_saturated_scores_still_have_a_gradient(build: Build, batch: Batch) -> None:
    """With this temperature, every probability is 0 or 1 in float32, and some are wrong."""
    method = build(temperature=1e-3, global_loss_on="probability")
    method.losses(batch)["global"].backward()
    gradients = torch.cat([parameter.grad.flatten() for parameter in method.adapter.parameters()])
    assert torch.isfinite(gradients).all() and gradients.abs().sum() > 0


def test_training_works_in_deterministic_mode(build: Build, batch: Batch) -> None:
    gradients = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            method = build()
            sum(method.losses(batch).values()).backward()
            gradients.append(torch.cat([p.grad.flatten() for p in method.learned().values()]))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(*gradients)
