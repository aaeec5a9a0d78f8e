"""Compare sizes with a forward pass and operations with torch's counter."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.backbones.cost import tap_values, tower_operations
from kanoclip.backbones.shape import tower_shape
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig


def test_sizes_of_taps_equal_those_of_a_forward_pass(backbone: Backbone) -> None:
    taps = [
        Tap("tokens", 2),
        Tap("vv", 6),
        Tap("qkv", 3),
        Tap("cls", 6),
        Tap("windows", 2),
        Tap("views", 5),
        Tap("calibrated", 4),
        Tap("pixels", 9),
    ]
    for tap, shape in backbone.feature_shapes(taps).items():
        assert tap_values(str(tap), backbone.shape) == torch.Size(shape).numel()
    assert tap_values("dino:tokens/2", backbone.shape) is None


@pytest.mark.parametrize(
    ("model", "taps"),
    [
        ("kanoclip-test", ["tokens/6"]),
        ("kanoclip-test", ["cls/3"]),
        ("kanoclip-test", ["vv/2", "vv/6"]),
        ("kanoclip-test", ["qkv/5", "tokens/6"]),
        ("kanoclip-test", ["windows/2", "windows/3"]),
        ("kanoclip-test", ["calibrated/4"]),
        ("kanoclip-test", ["views/5"]),
        ("kanoclip-tiny", ["tokens/4", "vv/4"]),  # with a stem, which views run five times
        ("kanoclip-tiny", ["windows/2"]),
        ("kanoclip-tiny", ["views/5"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_operations_equal_torchs_count(model: str, taps: list[str]) -> None:
    # the counter misses the fast path of nn.MultiheadAttention and the fused attention of a CPU
    config = BackboneConfig(model=model, weights="random:0", image_size=64)
    backbone = load_backbone(config)
    pixels = torch.zeros(1, 3, 64, 64)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            backbone.encode_images(pixels, [Tap.parse(tap) for tap in taps])
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    assert tower_operations(taps, tower_shape(config), 8) == counter.get_total_flops()
