"""Test the parts of AA-CLIP: what each phase learns, and the import of the authors' checkpoints."""

from pathlib import Path

import h5py
import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from torch import Tensor

from kanoclip.augmentation import Changes, ColourJitter, Geometric
from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig
from kanoclip.methods.aa_clip.adapters import ImageAdapters, ResidualAdapters, TextAnchors
from kanoclip.methods.aa_clip.model import AaClip
from kanoclip.methods.aa_clip.options import AaClipOptions
from kanoclip.methods.aa_clip.surgery import operated_patches
from kanoclip.methods.base import Batch
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.scoring import Scored, score_stage
from kanoclip.stages.training import train_stage
from kanoclip.types import InputError

VIT_L = TowerShape(24, (6, 12, 18, 24), vv_start=6, width=1024, joint_width=768, grid=(37, 37))
TEXT_TAPS = {Tap("tokens", 5), Tap("cls", 24)}


def build(backbone: Backbone, **options: object) -> AaClip:
    torch.manual_seed(0)
    return AaClip(backbone, AaClipOptions(**options), seed=0).eval()


@pytest.fixture
def batch(backbone: Backbone) -> Batch:
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    features = backbone.encode_images(pixels, {Tap("tokens", 1), Tap("cls", 6)})
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    masks[1, 4:9, 4:9] = masks[3, 20:30, 1:8] = True
    return Batch(["a", "b", "c", "d"], ["nut", "nut", "bolt", "bolt"], features, torch.tensor([0, 1, 0, 1]), masks)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_on_vit_l_14() -> None:
    """The text tower has 2,359,296 and the image tower 10,223,616; counting needs no weights."""
    model = open_clip.get_model_config(AaClip.published_backbone["model"])
    text, vision, joint = model["text_cfg"], model["vision_cfg"], model["embed_dim"]
    with torch.device("meta"):
        assert count(TextAnchors(text["width"], joint, text["layers"], 0.1)) == 2_359_296
        assert count(ImageAdapters(vision["width"], joint, vision["layers"], VIT_L.taps, 0.1)) == 10_223_616


def test_identity_adapters_change_nothing_and_later_blocks_have_none() -> None:
    adapters = ResidualAdapters(4, 2, share=0.1)
    x = torch.rand(2, 3, 4) + 0.1  # positive, so LeakyReLU does not change it
    adapters.layers[1].weight.data = 5 * torch.eye(4)  # the norm equals that of the token
    torch.testing.assert_close(adapters(3, x), x)
    for number in (1, 4, 7):
        assert adapters(number, x) is x
    assert not torch.allclose(adapters(2, x), x)


def test_without_adapters_both_towers_equal_clips(backbone: Backbone, batch: Batch) -> None:
    method = build(backbone, residual=0)
    with torch.no_grad():
        method.text.projection.weight.copy_(backbone.text.text_projection.T)
        found = method.text._encode(backbone, ["a photo of a nut."])
        expected = torch.nn.functional.leaky_relu(backbone.encode_text(["a photo of a nut."]))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        method.image.detection.weight.copy_(backbone.clip.visual.proj.T)
        patches, image = method.image(backbone.tower, batch.features[Tap("tokens", 1)])
        pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        last = backbone.encode_images(pixels, {Tap("tokens", 6)})[Tap("tokens", 6)]
    torch.testing.assert_close(image, backbone.project(last[:, 1:]).mean(1), atol=1e-5, rtol=1e-5)
    assert patches.shape == (4, 4, 16, backbone.joint_width)


def test_surgery_with_plain_values_keeps_patches_independent(backbone: Backbone) -> None:
    x = torch.randn(1, 17, backbone.width, generator=torch.Generator().manual_seed(2))
    other = x.clone()
    other[0, 5] += 1
    for attention, changed in (("value", {4}), ("value_value", set(range(16)))):
        one, two = (operated_patches(backbone, tokens, x[:, 0], attention) for tokens in (x, other))
        differs = (one - two).abs().sum(-1)[0] > 1e-6
        assert set(differs.nonzero().flatten().tolist()) == changed


@pytest.mark.parametrize("number", [0, 1])
def test_a_phase_changes_only_its_own_tower_and_lowers_its_loss(backbone: Backbone, batch: Batch, number: int) -> None:
    method = build(backbone)
    phase = method.phases()[number]
    optimizer = phase.optimizer([{**group, "lr": 1e-3} for group in phase.groups])
    before = {name: value.detach().clone() for name, value in method.learned().items()}
    values = []
    for _ in range(8):
        loss = torch.stack(list(phase.losses(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    moved = {name.split(".")[0] for name, value in method.learned().items() if not torch.equal(value, before[name])}
    assert moved == {phase.name}


def test_cached_anchors_are_dropped_when_training_begins(backbone: Backbone, batch: Batch) -> None:
    method = build(backbone)
    first = method(batch).map
    with torch.no_grad():
        method.text.projection.weight.neg_()
    assert torch.equal(method(batch).map, first)  # the anchors are cached
    method.train()
    assert not torch.allclose(method.eval()(batch).map, first)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, set()),
        ({"colour": 0.7}, set()),
        ({"geometric": 0.0}, {*TEXT_TAPS, Tap("tokens", 1)}),
        ({"geometric": 0.0, "colour": 0.7}, TEXT_TAPS),
    ],
)
def test_phases_that_do_not_change_images_read_the_cache(options: dict[str, float], expected: set[Tap]) -> None:
    assert AaClip.trains_on(AaClipOptions(**options), VIT_L) == expected
    assert AaClip.reads(AaClipOptions(**options), VIT_L) == {Tap("tokens", 1)}


def test_the_published_recipe_sets_the_options(backbone: Backbone) -> None:
    text, image = build(backbone, **AaClip.published).phases()
    assert (text.epochs, text.batch_size, image.epochs, image.batch_size) == (5, 16, 20, 2)
    assert text.augment == Changes((Geometric(0.5),))
    assert image.augment == Changes((Geometric(0.5), ColourJitter(0.7)))
    assert [image.schedule.factor(step, 40_000) for step in (0, 15_999, 16_000, 32_000)] == [1, 1, 0.5, 0.25]


def test_only_scores_normalised_over_a_class_are_transductive(backbone: Backbone) -> None:
    maps, scores = np.zeros((2, 4, 4), np.float32), np.array([0.2, 0.4], np.float32)
    assert AaClip.marks(AaClipOptions()) == set()
    assert build(backbone).after_class(maps, scores) is None
    assert AaClip.marks(AaClipOptions(**AaClip.published)) == {"transductive"}


def test_min_max_normalisation_over_a_class_equals_values_by_hand(backbone: Backbone) -> None:
    maps = np.array([[[0.2, 0.3]], [[0.4, 0.6]]], np.float32)
    scores = np.array([0.5, 0.7], np.float32)
    found = build(backbone, normalisation="class").after_class(maps, scores)
    np.testing.assert_allclose(found.scale * maps + found.shift, [[[0, 0.25]], [[0.5, 1]]], atol=1e-6)
    np.testing.assert_allclose(found.image_score, [(0.25 + 0) / 2, (1 + 1) / 2], atol=1e-6)
    found = build(backbone, normalisation="class", image_score="maximum").after_class(maps, scores)
    np.testing.assert_allclose(found.image_score, [0.25, 1], atol=1e-6)
    flat = build(backbone, normalisation="class").after_class(np.full_like(maps, 0.4), scores)
    np.testing.assert_allclose(flat.image_score, [0, 0.5], atol=1e-6)  # equal maps have no range to scale


def released(backbone: Backbone) -> tuple[dict[str, object], dict[str, object]]:
    """Return two files in the layout of the authors' code, for the test backbone, with random tensors."""
    g = torch.Generator().manual_seed(3)

    def layer(into: int, width: int) -> Tensor:
        return torch.randn(into, width, generator=g).half()

    text_width, width, joint = backbone.text_width, backbone.width, backbone.joint_width
    adapters = max(1, round(backbone.text_layers / 4))
    text = {f"{n}.fc.0.weight": layer(text_width, text_width) for n in range(adapters)}
    text[f"{adapters}.fc.0.weight"] = layer(joint, text_width)
    image = {f"layer_adapters.{n}.fc.0.weight": layer(width, width) for n in range(2)}
    image |= {f"seg_proj.{n}.fc.weight": layer(joint, width) for n in range(4)}
    image["det_proj.fc.weight"] = layer(joint, width)
    return {"epoch": 5, "text_adapter": text, "text_optimizer": {}}, {"epoch": 15, "image_adapter": image}


def test_released_checkpoints_become_learned_parameters(backbone: Backbone) -> None:
    text, image = released(backbone)
    found = AaClip.from_published([text, image])
    learned = build(backbone).learned()
    assert {name: tensor.shape for name, tensor in found.items()} == {n: p.shape for n, p in learned.items()}
    assert all(tensor.dtype == torch.float32 for tensor in found.values())
    last = max(text["text_adapter"], key=lambda name: int(name.split(".")[0]))
    assert torch.equal(found["text.projection.weight"], text["text_adapter"][last].float())
    assert torch.equal(found["text.adapters.layers.0.weight"], text["text_adapter"]["0.fc.0.weight"].float())
    of_image = image["image_adapter"]
    assert torch.equal(found["image.segmentation.2.weight"], of_image["seg_proj.2.fc.weight"].float())
    assert torch.equal(found["image.adapters.layers.1.weight"], of_image["layer_adapters.1.fc.0.weight"].float())
    assert torch.equal(found["image.detection.weight"], of_image["det_proj.fc.weight"].float())


def test_other_files_are_refused(backbone: Backbone) -> None:
    text, image = released(backbone)
    with pytest.raises(InputError, match=r"expected two files, text_adapter\.pth and .*, found 1"):
        AaClip.from_published([text])
    with pytest.raises(InputError, match="expected an entry text_adapter with tensors, found the entries epoch, image"):
        AaClip.from_published([image, text])
    activated = {"image_adapter": {"seg_proj.0.fc.0.weight": torch.zeros(1, 1)}}
    with pytest.raises(InputError, match="heads with an activation"):
        AaClip.from_published([text, activated])
    with pytest.raises(InputError, match=r"expected names such as seg_proj.* found conv\.weight"):
        AaClip.from_published([text, {"image_adapter": {"conv.weight": torch.zeros(1)}}])
    with pytest.raises(InputError, match=r"expected names such as 0\.fc.* found other"):
        AaClip.from_published([{"text_adapter": {"other": torch.zeros(1)}}, image])


def test_the_published_recipe_is_trained_and_scored(
    index: Path, knowledge: Path, tmp_path: Path, tiny_config: BackboneConfig
) -> None:
    """Train two phases on changed images, identically with one or three threads; scores of each class span 0..1."""
    options = {**AaClip.published, "epochs": 1, "batch_size": 8, "text_epochs": 1, "learning_rate": 1e-3}
    checkpoints = []
    for workers in (1, 3):
        data = Dataset("parts", index, backbone=tiny_config, workers=workers)
        folder = tmp_path / str(workers)
        train_stage("aa_clip", options, data, knowledge, folder, [1], "cpu", folder / "store")
        checkpoints.append(folder / "seed1" / "checkpoint.safetensors")
    assert checkpoints[0].read_bytes() == checkpoints[1].read_bytes()
    phases = pd.read_csv(tmp_path / "1" / "seed1" / "train.csv")["phase"]
    assert phases.tolist() == ["text", "image", "image"]
    row = Scored("aa_clip", "aa_clip", tmp_path / "scores", checkpoint=checkpoints[0])
    score_stage([row], data, None, "cpu", tmp_path / "store", batch_size=3)
    with h5py.File(tmp_path / "scores" / "scores.h5") as file:
        names, maps, scores = file["class_name"].asstr()[:], file["map"][:], file["image_score"][:]
    assert maps.shape == (16, 32, 32)
    for name in set(names):
        of_class = maps[names == name]
        assert of_class.min() == pytest.approx(0, abs=1e-5) and of_class.max() == pytest.approx(1, abs=1e-5)
        assert (2 * scores[names == name] - of_class.max((1, 2))).min() == pytest.approx(0, abs=1e-5)
