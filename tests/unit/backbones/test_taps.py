"""Compare taps and the loop over blocks with open_clip's blocks called one by one."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kanoclip.backbones import taps
from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.features import encode
from kanoclip.types import InputError

LAYERS, WIDTH, HEADS = 6, 128, 4


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def blocks_run(backbone: Backbone) -> Iterator[Counter[int]]:
    """Count the calls of each block of CLIP's image tower, numbered from 1."""
    calls: Counter[int] = Counter()
    hooks = [
        block.register_forward_hook(lambda *_, number=number: calls.update([number]))
        for number, block in enumerate(backbone.blocks, start=1)
    ]
    yield calls
    for hook in hooks:
        hook.remove()


def stream(backbone: Backbone, pixels: Tensor) -> list[Tensor]:
    """Return the residual stream before the first block and after each block."""
    found = [backbone.clip.visual._embeds(pixels)]
    for block in backbone.clip.visual.transformer.resblocks:
        found.append(block(found[-1]))
    return found


@pytest.mark.parametrize("tap", [Tap("vv", 24), Tap("cls", 0), Tap("windows", 3), Tap("tokens", 12, "dino")])
def test_a_tap_survives_a_round_trip_through_text(tap: Tap) -> None:
    assert Tap.parse(str(tap)) == tap


@pytest.mark.parametrize("text", ["vv", "vv/", "vv/x", "vv/-1", "vv/²", "/6", "6", ":vv/6", "vv:6", "vv/6/7", ""])
def test_text_that_is_not_a_tap_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Tap.parse(text)
    assert "\n" not in str(caught.value)


def test_a_misspelt_kind_gets_a_hint() -> None:
    with pytest.raises(InputError, match="unknown kind of tap 'token'; did you mean 'tokens'?"):
        Tap.parse("token/6")


def test_the_qkv_stream_equals_loops_over_heads(backbone: Backbone, pixels: Tensor) -> None:
    """Compute the sum of three self-attentions with loops over heads."""
    inputs, start, size = stream(backbone, pixels), backbone.shape.vv_start, WIDTH // HEADS
    s = inputs[start - 1]
    expected = {}
    for number in range(start, LAYERS + 1):
        block = backbone.clip.visual.transformer.resblocks[number - 1]
        projected = block.ln_1(inputs[number - 1]) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
        mixed = []
        for head in range(HEADS):
            q, k, v = (part[..., head * size : (head + 1) * size] for part in projected.split(WIDTH, dim=-1))
            mixed.append(sum((part @ part.transpose(1, 2) / size**0.5).softmax(-1) @ v for part in (q, k, v)))
        s = s + torch.cat(mixed, -1) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
        expected[Tap("qkv", number)] = s
    found = backbone.encode_images(pixels, expected)
    assert found.keys() == expected.keys()
    for tap, tokens in expected.items():
        torch.testing.assert_close(found[tap], tokens, atol=1e-5, rtol=1e-4)


def test_a_local_stream_equals_the_original_before_its_start(backbone: Backbone, pixels: Tensor) -> None:
    before = backbone.shape.vv_start - 1
    wanted = [Tap(kind, before) for kind in ("tokens", "vv", "qkv")]
    tokens, *others = (backbone.encode_images(pixels, wanted)[tap] for tap in wanted)
    assert all(torch.equal(tokens, other) for other in others)


def test_the_class_token_is_the_first_token_of_every_block(backbone: Backbone, pixels: Tensor) -> None:
    wanted = [Tap(kind, block) for kind in ("cls", "tokens") for block in range(LAYERS + 1)]
    found = backbone.encode_images(pixels, wanted)
    for block, expected in enumerate(stream(backbone, pixels)):
        assert torch.equal(found[Tap("cls", block)], found[Tap("tokens", block)][:, 0])
        torch.testing.assert_close(found[Tap("tokens", block)], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("wanted", "last"),
    [([Tap("tokens", 3), Tap("vv", 2)], 3), ([Tap("cls", 0)], 0), ([Tap("pixels", 8)], 0), ([Tap("vv", 6)], 6)],
)
def test_only_blocks_that_a_tap_needs_are_run(
    backbone: Backbone, pixels: Tensor, blocks_run: Counter[int], wanted: list[Tap], last: int
) -> None:
    assert backbone.encode_images(pixels, wanted).keys() == set(wanted)
    assert blocks_run == Counter(range(1, last + 1))


def test_all_taps_of_whole_images_share_one_forward_pass(
    backbone: Backbone, pixels: Tensor, blocks_run: Counter[int], all_taps: frozenset[Tap]
) -> None:
    backbone.encode_images(pixels, [tap for tap in all_taps if tap.kind not in ("windows", "views", "calibrated")])
    assert blocks_run == Counter(range(1, LAYERS + 1))


def test_the_hook_sees_every_input_and_the_output(backbone: Backbone, pixels: Tensor) -> None:
    seen: list[tuple[int, Tensor]] = []

    def look(number: int, x: Tensor) -> Tensor:
        seen.append((number, x))
        return x

    backbone.tower.run(backbone.tower.embed(pixels), stop=4, before_block=look)
    assert [number for number, _ in seen] == [1, 2, 3, 4, 5]  # 5 is the output of block 4
    for (_, found), expected in zip(seen, stream(backbone, pixels), strict=False):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_blocks_and_taps_use_the_values_returned_by_the_hook(backbone: Backbone, pixels: Tensor) -> None:
    """Double the stream after block 2 and shift the output of the last block."""
    changes = {3: lambda x: 2 * x, LAYERS + 1: lambda x: x + 1}
    wanted = [Tap("tokens", 2), Tap("tokens", LAYERS)]
    found = backbone.tower.run(
        backbone.tower.embed(pixels), before_block=lambda n, x: changes.get(n, lambda x: x)(x), watch=wanted
    )
    x = 2 * stream(backbone, pixels)[2]
    torch.testing.assert_close(found[wanted[0]], x)
    for block in backbone.blocks[2:]:
        x = block(x)
    torch.testing.assert_close(found[wanted[1]], x + 1, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("start", [1, 4])
def test_a_run_from_a_middle_block_equals_the_end_of_a_full_run(backbone: Backbone, pixels: Tensor, start: int) -> None:
    kinds = ("tokens", "vv", "qkv") if start < backbone.shape.vv_start else ("tokens",)
    tail = [Tap(kind, block) for kind in kinds for block in range(start, LAYERS + 1)]
    whole = backbone.encode_images(pixels, tail)
    found = backbone.tower.run(whole[Tap("tokens", start)], start, watch=tail)
    assert found.keys() == set(tail)
    assert all(torch.equal(found[tap], whole[tap]) for tap in tail)


@pytest.mark.parametrize("tap", [Tap("tokens", 1), Tap("tokens", 6), Tap("vv", 4)])
def test_a_run_refuses_taps_outside_its_blocks(backbone: Backbone, pixels: Tensor, tap: Tap) -> None:
    """Block 6 is after the last block of the run; V-V streams start before block 3."""
    with pytest.raises(ValueError, match="cannot be read between blocks 3 and 5"):
        backbone.tower.run(backbone.tower.embed(pixels), start=3, stop=5, watch=[tap])


def test_gradients_flow_through_run_but_not_through_encode_images(backbone: Backbone, pixels: Tensor) -> None:
    x = backbone.tower.embed(pixels).requires_grad_()
    tap = Tap("vv", LAYERS)
    backbone.tower.run(x, watch=[tap])[tap].sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert not backbone.encode_images(pixels.requires_grad_(), [tap])[tap].requires_grad


@pytest.mark.parametrize(
    ("tap", "message"),
    [
        (Tap("tokens", 99), "tap tokens/99: the tower has 6 blocks; choose a block up to that number"),
        (Tap("vv", 7), "tap vv/7: the tower has 6 blocks"),
        (Tap("tokns", 6), "unknown kind of tap 'tokns'; did you mean 'tokens'?"),
        (Tap("tokens", 6, "mae"), "unknown tower 'mae'; known: clip, dino"),
        (Tap("windows", 5), "windows of 5 x 5 patches do not fit in an image of 4 x 4 patches"),
        (Tap("windows", 0), "tap windows/0: expected a number of at least 1"),
        (Tap("pixels", 0), "tap pixels/0: expected a number of at least 1"),
    ],
)
def test_taps_that_no_tower_has_are_refused_before_reading_images(
    index: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tap: Tap, message: str
) -> None:
    monkeypatch.setattr("kanoclip.datasets.image_loader.load_square", None)
    with pytest.raises(InputError) as caught:
        encode(index, backbone, [Tap("cls", 6), tap], tmp_path / "features.h5")
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def new_kinds() -> Iterator[None]:
    """Register one kind of tap of each form for the duration of a test."""

    @taps.readout("patch_mean")
    def patch_mean(x: Tensor) -> Tensor:
        return x[:, 1:].mean(1)

    @taps.local_stream("queries_only")
    def queries_only(tower: object, number: int, x: Tensor) -> Tensor:
        return tower.attend(number, x, lambda q, k, v: q)

    @taps.image_tap("brightness")
    def brightness(tower: object, pixels: Tensor, at: int) -> Tensor:
        return tower.plain(pixels).mean((1, 2, 3)) * at

    yield
    for registry, kind in (
        (taps.READOUTS, "patch_mean"),
        (taps.LOCAL_STREAMS, "queries_only"),
        (taps.IMAGE_TAPS, "brightness"),
    ):
        del registry[kind]


def test_a_new_kind_of_tap_is_one_function(backbone: Backbone, pixels: Tensor, new_kinds: None) -> None:
    wanted = [Tap.parse(text) for text in ("patch_mean/2", "queries_only/3", "brightness/2", "vv/3")]
    mean, queries, brightness, _ = (backbone.encode_images(pixels, wanted)[tap] for tap in wanted)
    inputs = stream(backbone, pixels)
    torch.testing.assert_close(mean, inputs[2][:, 1:].mean(1))
    expected = inputs[1]  # vv_start is 2
    for number in (2, 3):
        block = backbone.blocks[number - 1]
        q = block.ln_1(inputs[number - 1]) @ block.attn.in_proj_weight[:WIDTH].T + block.attn.in_proj_bias[:WIDTH]
        expected = expected + q @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
    torch.testing.assert_close(queries, expected, atol=1e-5, rtol=1e-4)
    mean, deviation = (
        torch.tensor(v).view(3, 1, 1) for v in (backbone.clip.visual.image_mean, backbone.clip.visual.image_std)
    )
    torch.testing.assert_close(brightness, 2 * (pixels * deviation + mean).mean((1, 2, 3)))


def test_two_kinds_with_the_same_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two kinds of tap are called vv"):
        taps.readout("vv")(lambda x: x)
