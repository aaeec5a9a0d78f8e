import open_clip
import pytest
import torch

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig
from kanoclip.methods import Batch, method_class
from kanoclip.methods.clip import Clip, ClipOptions
from kanoclip.methods.clip_ac import ClipAC


@pytest.fixture
def batch(backbone: Backbone) -> Batch:
    pixels = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    features = backbone.encode_images(pixels, [Tap("tokens", backbone.layers)])
    return Batch([str(number) for number in range(8)], ["nut", "bolt"] * 4, features)


@pytest.mark.parametrize("kind", [Clip, ClipAC])
def test_temperature_changes_scores_but_not_their_order(kind: type[Clip], backbone: Backbone, batch: Batch) -> None:
    cold, warm = (kind(backbone, ClipOptions(temperature=t), seed=0)(batch) for t in (0.01, 0.07))
    assert not torch.allclose(cold.map, warm.map, atol=1e-3)
    assert torch.equal(cold.map.flatten().argsort(), warm.map.flatten().argsort())
    assert torch.equal(cold.image_score.argsort(), warm.image_score.argsort())


def test_a_class_is_encoded_once_per_backbone(
    backbone: Backbone, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text vectors are reused for other batches and other seeds."""
    asked: list[str] = []
    monkeypatch.setattr(backbone, "text_vectors", {})
    real = backbone.encode_text
    monkeypatch.setattr(backbone, "encode_text", lambda texts: (asked.extend(texts), real(texts))[1])
    method = Clip(backbone, ClipOptions(), seed=0)
    outputs = [method(batch), method(batch), Clip(backbone, ClipOptions(), seed=1)(batch)]
    assert all(torch.equal(output.map, outputs[0].map) for output in outputs)
    assert sorted(asked) == sorted(
        f"a photo of {state} {name}" for state in ("a normal", "an anomalous") for name in ("nut", "bolt")
    )


@pytest.mark.parametrize("name", ["clip", "clip_ac", "winclip", "april_gan"])
def test_the_published_options_can_be_configured(name: str) -> None:
    kind = method_class(name)
    kind.Options(**kind.published)
    backbone = BackboneConfig(**kind.published_backbone)
    assert backbone.weights in open_clip.list_pretrained_tags_by_model(backbone.model)
    vision = open_clip.get_model_config(backbone.model)["vision_cfg"]
    assert backbone.image_size % vision["patch_size"] == 0
