import hashlib
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from kanoclip.backbones import weights
from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig
from kanoclip.types import InputError


def refusal(**settings: object) -> str:
    with pytest.raises(InputError) as caught:
        load_backbone(BackboneConfig(**settings))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_local_file_is_loaded(tmp_path: Path, backbone: Backbone) -> None:
    path = tmp_path / "weights.safetensors"
    original = load_backbone(BackboneConfig(model="kanoclip-tiny", weights="random:5", image_size=128))
    save_file({name: tensor.contiguous() for name, tensor in original.clip.state_dict().items()}, path)
    config = BackboneConfig(model="kanoclip-tiny", weights=str(path), image_size=128)
    loaded = load_backbone(config)
    for name, tensor in original.clip.state_dict().items():
        assert torch.equal(loaded.clip.state_dict()[name], tensor), name
    moved = tmp_path / "elsewhere" / "another_name.safetensors"
    moved.parent.mkdir()
    moved.write_bytes(path.read_bytes())
    elsewhere = config.model_copy(update={"weights": str(moved)})
    assert load_backbone(elsewhere).provenance() == loaded.provenance()
    assert loaded.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"something": torch.zeros(2)}, path)
    assert "cannot load weights" in refusal(model="kanoclip-tiny", weights=str(path), image_size=128)


def test_unknown_names_are_refused_with_a_hint() -> None:
    assert "did you mean 'ViT-L-14-336-quickgelu'" in refusal(model="ViT-L-14-336-quikgelu")
    assert "its tags: " in refusal(model="ViT-B-32", weights="nowhere")
    assert "such as random:0" in refusal(model="kanoclip-tiny", weights="random:x")
    assert "no weights are shipped" in refusal(model="ViT-B-32", weights="embedded")


def test_image_size_must_fit_the_patches() -> None:
    assert "multiple of its patch size 8" in refusal(model="kanoclip-tiny", weights="random:0", image_size=100)


def test_towers_without_a_class_token_are_refused() -> None:
    assert "expected a ViT" in refusal(model="RN50", weights="random:0", image_size=224)


@pytest.mark.parametrize(("model", "insisted"), [("ViT-B-32", "gelu"), ("ViT-B-32-quickgelu", "quick_gelu")])
def test_weights_trained_with_another_activation_are_refused(
    model: str, insisted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With OpenAI's weights and plain GELU, open_clip only warns; we refuse. No weights are downloaded."""
    monkeypatch.setattr(weights, "_with_weights", lambda config: open_clip.create_model(config.model, pretrained=None))
    monkeypatch.setattr(weights, "_resize_positions", lambda visual, config: None)
    config = BackboneConfig(model=model, weights="openai", image_size=224)
    if model.endswith("-quickgelu"):
        weights.create_open_clip(config)
    else:
        with pytest.raises(InputError, match="expect quick_gelu, the model has gelu; use the model ViT-B-32-quickgelu"):
            weights.create_open_clip(config)
    weights.create_open_clip(config.model_copy(update={"activation": insisted}))


def test_the_quickgelu_model_uses_quick_gelu() -> None:
    clip = weights.create_open_clip(
        BackboneConfig(model="kanoclip-tiny", weights="random:0", image_size=128, activation="quick_gelu")
    )
    assert any(type(module).__name__ == "QuickGELU" for module in clip.modules())


def test_partial_patches_can_be_cropped() -> None:
    """100 pixels give 12 x 12 patches of 8; the last 4 rows and columns are dropped."""
    settings = {"model": "kanoclip-tiny", "weights": "random:0", "partial_patches": "cut"}
    cut = load_backbone(BackboneConfig(**settings, image_size=100))
    whole = load_backbone(BackboneConfig(**settings, image_size=96))
    assert cut.grid == whole.grid == (12, 12)
    pixels = torch.randn(1, 3, 100, 100)
    tap = Tap("tokens", 4)
    found, expected = (b.encode_images(p, [tap])[tap] for b, p in ((cut, pixels), (whole, pixels[..., :96, :96])))
    torch.testing.assert_close(found, expected)


def test_normalisation_of_pixels_can_be_disabled() -> None:
    config = BackboneConfig(model="kanoclip-test", weights="random:0", image_size=32, normalisation="none")
    plain = load_backbone(config)
    images = (np.arange(2 * 32 * 32 * 3) % 251).astype(np.uint8).reshape(2, 32, 32, 3)
    expected = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(plain.normalise(images), expected)
    assert plain.provenance() != load_backbone(config.model_copy(update={"normalisation": "model"})).provenance()
