"""Train with blocks in fp16: the gradients must not vanish there."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kanoclip.backbones.clip import load_backbone
from kanoclip.config import BackboneConfig
from kanoclip.methods import Batch, method_class
from kanoclip.training import loop
from kanoclip.types import InputError

SIDE = 128


def gradients(precision: str, loss_scale: float = 1.0) -> dict[str, torch.Tensor]:
    """Return the gradients of MVFA-AD's first step on eight noise images, four with a bright square."""
    backbone = load_backbone(
        BackboneConfig(model="kanoclip-tiny", weights="embedded", image_size=SIDE, precision=precision)
    )
    kind = method_class("mvfa")
    torch.manual_seed(0)
    method = kind(backbone, kind.Options(), 0)
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 200, (8, SIDE, SIDE, 3), dtype=np.uint8))
    masks = torch.zeros(8, SIDE, SIDE, dtype=torch.bool)
    masks[4:, 20:36, 24:40] = True
    images[masks] = 255
    taps = method.reads(method.options, backbone.shape)
    features = backbone.encode_images(backbone.normalise(images), taps)
    features = {tap: value.half().float() for tap, value in features.items()}
    batch = Batch([str(number) for number in range(8)], ["bottle"] * 8, features, masks.any((1, 2)).long(), masks)
    phase = method.phases()[0]
    losses = phase.losses
    phase = replace(phase, losses=lambda batch: {name: value * loss_scale for name, value in losses(batch).items()})
    method.train()
    loop._step(method, phase, batch, phase.optimizer(phase.groups), 1)
    return {name: value.grad for name, value in method.learned().items() if value.grad is not None}


def largest_error(half: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> float:
    """Return the largest distance of a gradient from that in fp32, relative to its norm."""
    assert half.keys() == exact.keys() and all(value.any() for value in exact.values())
    return max(float(torch.dist(half[name], value) / value.norm()) for name, value in exact.items())


def test_gradients_in_fp16_are_those_of_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = gradients("fp32")
    scaled = largest_error(gradients("fp16"), exact)
    monkeypatch.setattr(loop, "FP16_SCALE", 1.0)
    assert scaled < 0.2 < largest_error(gradients("fp16"), exact)


def test_gradients_too_large_for_fp16_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="gradient is not finite in epoch 1; set precision: fp32 for the backbone"):
        gradients("fp16", loss_scale=1e6)
