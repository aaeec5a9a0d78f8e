import pytest
import torch
from torch import Tensor, nn

from kanoclip.methods.kanoclip_paper.attention import (
    Attention,
    CrossAttention,
    DeformableSelfAttention,
    SharedSimilarity,
    TwoAttentions,
)

GRID = 8, 6
WIDTH, HEADS = 16, 4


@pytest.fixture
def deformable() -> DeformableSelfAttention:
    torch.manual_seed(0)
    return DeformableSelfAttention(WIDTH, HEADS, GRID, groups=2, stride=2, kernel=3)


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(2, 48, WIDTH, generator=torch.Generator().manual_seed(1))


def attention_by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend from (L, d) queries to (M, d) keys and values, one head and one query at a time."""
    result = torch.zeros_like(q)
    size = WIDTH // HEADS
    for head in range(HEADS):
        own = slice(head * size, (head + 1) * size)
        for row in range(len(q)):
            weights = torch.tensor([float(q[row, own] @ key[own]) / size**0.5 for key in k]).softmax(0)
            result[row, own] = sum(weight * value[own] for weight, value in zip(weights, v, strict=True))
    return result


def bilinear(image: Tensor, row: float, column: float) -> Tensor:
    """Return the (d,) vector of (h, w, d) at a fractional position."""
    r, c = min(int(row), image.shape[0] - 2), min(int(column), image.shape[1] - 2)
    dr, dc = row - r, column - c
    top = image[r, c] * (1 - dc) + image[r, c + 1] * dc
    bottom = image[r + 1, c] * (1 - dc) + image[r + 1, c + 1] * dc
    return top * (1 - dr) + bottom * dr


@torch.no_grad()
def test_without_offsets_it_equals_attention_over_the_sampled_grid(
    deformable: DeformableSelfAttention, tokens: Tensor
) -> None:
    """The points are the centres of 2 x 2 cells, at (c + 0.5) / n * (size - 1) with aligned corners."""
    nn.init.zeros_(deformable.offset_out.weight)
    places = [((r + 0.5) / 4 * 7, (c + 0.5) / 3 * 5) for r in range(4) for c in range(3)]
    found = deformable(tokens)
    for number, x in enumerate(tokens):
        sampled = torch.stack([bilinear(x.view(*GRID, WIDTH), *place) for place in places])  # (12, d)
        mixed = attention_by_hand(deformable.query(x), deformable.key(sampled), deformable.value(sampled))
        torch.testing.assert_close(found[number], deformable.out(mixed), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_groups_sample_their_channels_at_their_own_offsets(deformable: DeformableSelfAttention, tokens: Tensor) -> None:
    found, x = deformable(tokens)[0], tokens[0]
    queries = deformable.query(x)  # (P, d)
    sampled = torch.zeros(12, WIDTH)
    for group in range(2):
        own = slice(group * 8, group * 8 + 8)
        image = queries[:, own].view(*GRID, 8)
        kernel, bias = deformable.offset_conv.weight[:, 0], deformable.offset_conv.bias  # (8, 3, 3), (8,)
        for r in range(4):
            for c in range(3):
                hidden = bias.clone()
                for i in range(3):
                    for j in range(3):
                        y, z = 2 * r + i - 1, 2 * c + j - 1
                        if 0 <= y < 8 and 0 <= z < 6:
                            hidden += kernel[:, i, j] * image[y, z]
                hidden = nn.functional.gelu(deformable.offset_norm(hidden))
                dx, dy = (deformable.offset_out.weight @ hidden).tolist()  # in -1..1 over the image
                row = ((r + 0.5) / 4 * 2 - 1 + dy + 1) / 2 * 7
                column = ((c + 0.5) / 3 * 2 - 1 + dx + 1) / 2 * 5
                values = x.view(*GRID, WIDTH)[..., own]
                sampled[r * 3 + c, own] = bilinear(values, min(max(row, 0), 7), min(max(column, 0), 5))
    mixed = attention_by_hand(queries, deformable.key(sampled), deformable.value(sampled))
    torch.testing.assert_close(found, deformable.out(mixed), atol=1e-5, rtol=1e-5)


def test_offsets_are_learned_and_stay_inside_the_image(deformable: DeformableSelfAttention, tokens: Tensor) -> None:
    deformable(tokens).square().sum().backward()
    assert deformable.offset_out.weight.grad.abs().sum() > 0
    assert deformable.offset_conv.weight.grad.abs().sum() > 0
    with torch.no_grad():
        deformable.offset_out.weight.mul_(1000)
        points = deformable.sampling_points(deformable.query(tokens))
    assert points.shape == (4, 4, 3, 2)
    assert points.abs().max() == 1


@torch.no_grad()
def test_the_range_factor_bounds_offsets(deformable: DeformableSelfAttention, tokens: Tensor) -> None:
    """With factor 1, a point stays inside its own cell, half of the way to its neighbours."""
    deformable.offset_range = 1.0
    deformable.offset_out.weight.mul_(1000)
    points = deformable.sampling_points(deformable.query(tokens))
    cells_x, cells_y = ((points[..., axis] + 1) / 2 * size for axis, size in ((0, 3), (1, 4)))
    for c in range(3):
        assert c - 1e-5 <= cells_x[:, :, c].min() and cells_x[:, :, c].max() <= c + 1 + 1e-5
    for r in range(4):
        assert r - 1e-5 <= cells_y[:, r].min() and cells_y[:, r].max() <= r + 1 + 1e-5
    assert cells_x[:, :, 1].max() - cells_x[:, :, 1].min() > 0.9  # and it uses that range


def test_gradients_repeat_in_deterministic_mode(deformable: DeformableSelfAttention, tokens: Tensor) -> None:
    gradients = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            deformable.zero_grad()
            deformable(tokens).square().sum().backward()
            gradients.append(deformable.offset_conv.weight.grad.clone())
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(*gradients)


def heads_of(layer: nn.MultiheadAttention) -> list[tuple[Tensor, Tensor]]:
    return list(zip(layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True))


@torch.no_grad()
def test_two_attentions_equal_loops_over_heads(tokens: Tensor) -> None:
    torch.manual_seed(0)
    layer, text = TwoAttentions(WIDTH, HEADS), torch.randn(2, 2, WIDTH)
    for_patches, for_text = layer(tokens, text)
    for inner, found, query, source in (
        (layer.text_to_vision, for_patches, tokens, text),
        (layer.vision_to_text, for_text, text, tokens),
    ):
        (wq, bq), (wk, bk), (wv, bv) = heads_of(inner.attention)
        for number in range(2):
            x, y = query[number], source[number]
            mixed = attention_by_hand(x @ wq.T + bq, y @ wk.T + bk, y @ wv.T + bv)
            torch.testing.assert_close(found[number], inner.attention.out_proj(mixed), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_shared_similarity_equals_two_attentions(tokens: Tensor) -> None:
    """Each direction alone is an attention whose queries are the keys of the other modality."""
    torch.manual_seed(0)
    layer, text = SharedSimilarity(WIDTH, HEADS), torch.randn(2, 2, WIDTH)
    for_patches, for_text = layer(tokens, text)
    for number in range(2):
        f, t = tokens[number], text[number]
        mixed = attention_by_hand(layer.vision_key(f), layer.text_key(t), layer.text_value(t))
        torch.testing.assert_close(for_patches[number], layer.vision_out(mixed), atol=1e-5, rtol=1e-5)
        mixed = attention_by_hand(layer.text_key(t), layer.vision_key(f), layer.vision_value(f))
        torch.testing.assert_close(for_text[number], layer.text_out(mixed), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_cross_attention_is_residual(tokens: Tensor) -> None:
    torch.manual_seed(0)
    text = torch.randn(2, 2, WIDTH)
    inner = TwoAttentions(WIDTH, HEADS)
    plain, scaled = CrossAttention(WIDTH, inner), CrossAttention(WIDTH, inner, layer_scale=0.25)
    for found, small, before in zip(plain(tokens, text), scaled(tokens, text), (tokens, text), strict=True):
        torch.testing.assert_close((found - before) / 4, small - before)
    normed = [nn.functional.layer_norm(x, (WIDTH,)) for x in (tokens, text)]
    torch.testing.assert_close(plain(tokens, text)[0] - tokens, inner(*normed)[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_attention_without_other_tokens_is_self_attention(tokens: Tensor) -> None:
    layer = Attention(WIDTH, HEADS)
    torch.testing.assert_close(layer(tokens), layer(tokens, tokens))
