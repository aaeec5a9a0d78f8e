"""Test Bi-CMCI, the Conv-Adapter and the numbers of parameters without a backbone."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanoclip.methods.kanoclip_paper.adapter import ConvAdapter
from kanoclip.methods.kanoclip_paper.bi_cmci import BiCMCI
from kanoclip.methods.kanoclip_paper.model import learned_prompts
from kanoclip.methods.kanoclip_paper.options import KAnoCLIPOptions

SMALL = {"width": 16, "heads": 2, "deform_groups": 2, "deform_stride": 2, "deform_kernel": 3}
GRID = 4, 4


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def stage_of_the_paper(**options: object) -> BiCMCI:
    """Return one stage on ViT-L/14 at 518 pixels."""
    settings = KAnoCLIPOptions(**options)
    return BiCMCI(settings, 1024 if settings.tap_space == "raw" else 768, 768, (37, 37))


def prompts_of_the_paper(**options: object) -> nn.Module:
    return learned_prompts(768, 12, KAnoCLIPOptions(**options))


def test_learnable_parameters_with_the_papers_backbone() -> None:
    """6,378,496 on ViT-L/14, with widths 1024, 768 and 768; counting needs no weights."""
    parts = prompts_of_the_paper(), stage_of_the_paper(), ConvAdapter(768, KAnoCLIPOptions().bottleneck)
    prompts, stage, adapter = map(count, parts)
    assert (prompts, stage, adapter) == (18_432, 1_515_904, 296_448)
    assert prompts + 4 * stage + adapter == 6_378_496


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"width": 128}, 495_808),
        ({"width": 512}, 5_128_960),
        ({"width": 768}, 10_839_168),
        ({"cross_attention": "shared"}, 5_537_280 // 4),
        ({"feed_forward": True}, 1_515_904 + 2 * (525_568 + 512)),  # two layers, each with a norm
        ({"text_attention": False, "patch_attention": "none"}, 987_648 - 2 * 512),  # without the two norms
        ({"text_attention": False}, 1_515_904 - 263_168 - 512),
        ({"patch_attention": "none"}, 1_515_904 - 265_088 - 512),
        ({"patch_attention": "full"}, 1_515_904 - 265_088 + 263_168),
        ({"layer_scale": 1e-4}, 1_515_904 + 2 * 256),
        ({"tap_space": "joint"}, 1_515_904 - 256 * 256),
        ({"output_space": "clip"}, 1_515_904 + 2 * (256 * 768 + 768)),
    ],
)
def test_number_of_parameters_of_a_stage(options: dict[str, object], expected: int) -> None:
    assert count(stage_of_the_paper(**options)) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"prefix_per_word": True}, 36_864),
        ({"deep_depth": 9}, 18_432 + 24_576),  # like AnomalyCLIP: four tokens in eight further blocks
        ({"object_agnostic": True}, 18_432),
    ],
)
def test_number_of_parameters_of_the_prompts(options: dict[str, object], expected: int) -> None:
    assert count(prompts_of_the_paper(**options)) == expected


@pytest.mark.parametrize(("bottleneck", "expected"), [(48, 75_264), (96, 148_992), (192, 296_448), (384, 591_360)])
def test_number_of_parameters_of_the_adapter(bottleneck: int, expected: int) -> None:
    assert count(ConvAdapter(768, bottleneck)) == expected
    assert count(ConvAdapter(768, bottleneck, depthwise=True)) == expected + 9 * bottleneck


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Return patches, text, and the patches in the joint space."""
    g = torch.Generator().manual_seed(1)
    text, joint = (F.normalize(torch.randn(2, n, 12, generator=g), dim=-1) for n in (2, 16))
    return torch.randn(2, 16, 20, generator=g), text, joint


def build(**options: object) -> BiCMCI:
    torch.manual_seed(0)
    return BiCMCI(KAnoCLIPOptions(**SMALL, **options), 20, 12, GRID)


def pairwise_cosines(f: Tensor, t: Tensor) -> Tensor:
    rows = [
        [[float(a @ b / a.norm() / b.norm()) for b in vectors] for a in tokens]
        for tokens, vectors in zip(f, t, strict=True)
    ]
    return torch.tensor(rows)


@torch.no_grad()
@pytest.mark.parametrize("text_attention", [True, False])
@pytest.mark.parametrize("patch_attention", ["deformable", "full", "none"])
@pytest.mark.parametrize("feed_forward", [True, False])
def test_the_layers_are_applied_in_the_documented_order(
    inputs: tuple[Tensor, Tensor, Tensor], text_attention: bool, patch_attention: str, feed_forward: bool
) -> None:
    """The order is self-attention per modality, cross-attention in both directions, feed-forward layers."""
    options = {"text_attention": text_attention, "patch_attention": patch_attention, "feed_forward": feed_forward}
    stage, (patches, text, _) = build(**options), inputs
    f, t = stage.vision_in(patches), stage.text_in(text)
    if text_attention:
        t = t + stage.text_attention.inner(F.layer_norm(t, (16,)))
    if patch_attention != "none":
        f = f + stage.patch_attention.inner(F.layer_norm(f, (16,)))
    for_patches, for_text = stage.cross_attention.inner(F.layer_norm(f, (16,)), F.layer_norm(t, (16,)))
    f, t = f + for_patches, t + for_text
    if feed_forward:
        for_patches, for_text = (
            last(F.gelu(first(F.layer_norm(x, (16,)))))
            for x, (first, _, last) in (
                (f, stage.vision_feed_forward.inner),
                (t, stage.text_feed_forward.inner),
            )
        )
        f, t = f + for_patches, t + for_text
    torch.testing.assert_close(stage(patches, text), pairwise_cosines(f, t), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_in_clip_space_initial_similarities_equal_clips(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    stage, (patches, text, joint) = build(output_space="clip"), inputs
    expected = pairwise_cosines(joint, text)
    torch.testing.assert_close(stage(patches, text, joint), expected, atol=1e-5, rtol=1e-5)
    nn.init.normal_(stage.vision_out.weight)
    assert (stage(patches, text, joint) - expected).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("depthwise", [True, False])
def test_the_adapter_is_equation_11(residual: bool, depthwise: bool) -> None:
    torch.manual_seed(0)
    adapter = ConvAdapter(6, 3, residual, depthwise)
    nn.init.normal_(adapter.up.weight)
    image, patches = torch.randn(2, 6), torch.randn(2, 4, 5, 6)
    found = adapter(image, patches)

    def hidden(x: Tensor) -> Tensor:
        centred = x - x.mean()
        return adapter.down.weight @ (centred / (centred.square().mean() + 1e-5).sqrt())

    for number in range(2):
        middle = hidden(image[number]).clamp(min=0)
        if depthwise:
            kernel = adapter.depthwise.weight[:, 0]  # (3, 3, 3)
            total = torch.zeros(3)
            for r in range(4):
                for c in range(5):
                    around = [(i, j) for i in range(3) for j in range(3) if 0 <= r + i - 1 < 4 and 0 <= c + j - 1 < 5]
                    seen = [kernel[:, i, j] * hidden(patches[number, r + i - 1, c + j - 1]) for i, j in around]
                    total += torch.stack(seen).sum(0).clamp(min=0)
            middle = middle + total / 20
        expected = adapter.up.weight @ middle + (image[number] if residual else 0)
        torch.testing.assert_close(found[number], expected / expected.norm(), atol=1e-5, rtol=1e-5)


def test_the_residual_adapter_initially_returns_clips_feature() -> None:
    image = F.normalize(torch.randn(2, 6), dim=-1)
    torch.testing.assert_close(ConvAdapter(6, 3, residual=True)(image), image)
