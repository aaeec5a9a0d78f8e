import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kanoclip.backbones.attention import value_value
from kanoclip.backbones.clip import Backbone, complete, load_backbone
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig
from kanoclip.types import InputError

LAYERS = 6


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_original_stream_equals_open_clip(backbone: Backbone, pixels: Tensor) -> None:
    every = range(1, LAYERS + 1)
    last = Tap("cls", LAYERS)
    ours = backbone.encode_images(pixels, [last, *(Tap(kind, at) for kind in ("tokens", "vv") for at in every)])
    theirs = backbone.clip.visual.forward_intermediates(pixels, output_fmt="NLC")["image_intermediates"]
    for tap in every:
        torch.testing.assert_close(ours[Tap("tokens", tap)][:, 1:], theirs[tap - 1], atol=1e-6, rtol=1e-5)
    assert torch.equal(ours[Tap("tokens", LAYERS)][:, 0], ours[last])
    torch.testing.assert_close(backbone.project(ours[last]), backbone.clip.encode_image(pixels, normalize=True))


def test_local_stream_equals_loops_over_heads(backbone: Backbone, pixels: Tensor) -> None:
    """Compute the formula of tower.py with loops over heads, from the outputs of open_clip's blocks."""
    visual = backbone.clip.visual
    inputs = [visual._embeds(pixels)]
    for block in visual.transformer.resblocks:
        inputs.append(block(inputs[-1]))
    start, width, heads = backbone.config.vv_start, 128, 4
    s = inputs[start - 1]
    expected = {}
    for number in range(start, LAYERS + 1):
        block = visual.transformer.resblocks[number - 1]
        x = block.ln_1(inputs[number - 1])
        v = x @ block.attn.in_proj_weight[2 * width :].T + block.attn.in_proj_bias[2 * width :]
        mixed = []
        for head in range(heads):
            part = v[..., head * 32 : (head + 1) * 32]
            mixed.append((part @ part.transpose(1, 2) / 32**0.5).softmax(-1) @ part)
        s = s + torch.cat(mixed, -1) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
        expected[number] = s
    found = backbone.encode_images(pixels, [Tap("vv", number) for number in expected])
    for number, tokens in expected.items():
        torch.testing.assert_close(found[Tap("vv", number)], tokens, atol=1e-5, rtol=1e-4)


def test_taps_are_four_different_tensors(backbone: Backbone, pixels: Tensor) -> None:
    wanted = [Tap(kind, at) for kind in ("tokens", "vv") for at in backbone.quarters]
    tokens = list(backbone.encode_images(pixels, wanted).values())
    assert len(tokens) == 8
    for i, a in enumerate(tokens):
        for b in tokens[:i]:
            assert (a - b).abs().max() > 1e-2


def test_local_stream_does_not_change_the_original(backbone: Backbone, pixels: Tensor) -> None:
    original = [Tap("tokens", 6), Tap("cls", 6)]
    alone = backbone.encode_images(pixels, original)
    both = backbone.encode_images(pixels, [*original, Tap("vv", 2), Tap("vv", 6), Tap("qkv", 6)])
    for tap in original:
        assert torch.equal(alone[tap], both[tap])


def test_value_value_attention_equals_pytorchs(backbone: Backbone) -> None:
    """Plain attention is V-V attention if query and key weights are replaced by the value weights."""
    block = backbone.blocks[0]
    copy = torch.nn.MultiheadAttention(128, 4, batch_first=True)
    with torch.no_grad():
        copy.load_state_dict(block.attn.state_dict())
        for part in (copy.in_proj_weight, copy.in_proj_bias):
            part[:256] = part[256:].repeat(2, *[1] * (part.ndim - 1))
        x = torch.randn(2, 9, 128)
        normed = block.ln_1(x)
        expected = copy(normed, normed, normed)[0]
        torch.testing.assert_close(backbone.tower.attend(1, x, value_value), expected, atol=1e-6, rtol=1e-5)


def test_text_equals_open_clip(backbone: Backbone) -> None:
    texts = ["a photo of a normal bottle.", "x", "a much longer text about a screw with a scratch on its thread"]
    expected = backbone.clip.encode_text(open_clip.get_tokenizer("ViT-B-32")(texts))
    torch.testing.assert_close(backbone.encode_text(texts), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("layers", "taps"), [(24, (6, 12, 18, 24)), (12, (3, 6, 9, 12)), (6, (2, 3, 4, 6))])
def test_default_taps_are_the_quarters_of_the_tower(layers: int, taps: tuple[int, ...]) -> None:
    config = complete(BackboneConfig(), layers)
    assert config.taps == taps
    assert config.vv_start == taps[0]


def test_taps_outside_the_tower_are_refused() -> None:
    with pytest.raises(InputError, match="at most 6"):
        complete(BackboneConfig(taps=(2, 9)), 6)


def test_positions_are_resized_like_open_clip() -> None:
    ours = load_backbone(BackboneConfig(model="kanoclip-test", weights="random:0", image_size=64))
    native = load_backbone(BackboneConfig(model="kanoclip-test", weights="random:0", image_size=128))
    theirs = open_clip.create_model("kanoclip-test", force_image_size=64)
    state = {name: tensor.clone() for name, tensor in native.clip.state_dict().items()}
    open_clip.model.resize_pos_embed(state, theirs)
    torch.testing.assert_close(ours.clip.visual.positional_embedding, state["visual.positional_embedding"])
    bilinear = load_backbone(
        BackboneConfig(model="kanoclip-test", weights="random:0", image_size=64, position_resize="bilinear")
    )
    table = native.clip.visual.positional_embedding[1:].T.reshape(1, 128, 16, 16)
    expected = F.interpolate(table, (8, 8), mode="bilinear", align_corners=False).flatten(2)[0].T
    torch.testing.assert_close(bilinear.clip.visual.positional_embedding[1:], expected)
    assert bilinear.provenance() != ours.provenance()


def test_random_weights_depend_only_on_the_seed(tiny_config: BackboneConfig, backbone: Backbone) -> None:
    assert load_backbone(tiny_config).weights_sha256 == backbone.weights_sha256
    other = load_backbone(tiny_config.model_copy(update={"weights": "random:1"}))
    assert other.weights_sha256 != backbone.weights_sha256
