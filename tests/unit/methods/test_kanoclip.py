import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.streams import ImageFeatures
from kanoclip.methods.base import Batch
from kanoclip.methods.kanoclip.adapter import ConvAdapter
from kanoclip.methods.kanoclip.bi_cmci import BiCMCI, DeformableSelfAttention, attend
from kanoclip.methods.kanoclip.model import KAnoCLIP, KAnoCLIPOptions
from kanoclip.prompts.learned import LearnedPrompts

SMALL = {"width": 16, "heads": 2, "deform_groups": 2, "deform_stride": 2, "deform_kernel": 3, "bottleneck": 8}


@pytest.fixture
def method(backbone: Backbone) -> KAnoCLIP:
    torch.manual_seed(0)
    method = KAnoCLIP(backbone, KAnoCLIPOptions(prompt_length=3, **SMALL), seed=0)
    method.learn_knowledge({name: [f"a {name} with a crack", f"a broken {name}"] for name in ("nut", "bolt")})
    return method.eval()


@pytest.fixture
def batch(backbone: Backbone) -> Batch:
    g = torch.Generator().manual_seed(1)
    local = {tap: torch.randn(4, 17, 128, generator=g) for tap in backbone.quarters}
    features = ImageFeatures(torch.randn(4, 128, generator=g), original={}, local=local, windows={}, pixels={})
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    masks[1, 4:9, 4:9] = masks[3, 20:30, 1:8] = True
    return Batch(["a", "b", "c", "d"], ["nut", "nut", "bolt", "bolt"], features, torch.tensor([0, 1, 0, 1]), masks)


def test_parameter_count_with_the_papers_backbone() -> None:
    """6,378,496 learnable on ViT-L/14: widths 1024, 768, 768; no weights are needed to count."""
    options = KAnoCLIPOptions()
    prompts = LearnedPrompts(768, options.prompt_length, (options.normal_words, options.abnormal_words))
    o = options
    stage = BiCMCI(1024, 768, o.width, o.heads, o.deform_groups, o.deform_stride, o.deform_kernel, o.temperature)
    adapter = ConvAdapter(768, options.bottleneck)

    def count(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert (count(prompts), count(stage), count(adapter)) == (18_432, 1_515_904, 296_448)
    assert count(prompts) + 4 * count(stage) + count(adapter) == 6_378_496


def test_deformable_attention_without_offsets_is_attention_over_the_sampled_grid() -> None:
    torch.manual_seed(0)
    grid, width, stride = (8, 6), 16, 2
    deformable = DeformableSelfAttention(width, heads=4, groups=2, stride=stride, kernel=3)
    nn.init.zeros_(deformable.offset_out.weight)
    x = torch.randn(2, 48, width)
    # the points are the centres of 2 x 2 cells: with align_corners they lie at (c + 0.5) / n * (size - 1)
    rows = [(c + 0.5) / 4 * 7 for c in range(4)]
    columns = [(c + 0.5) / 3 * 5 for c in range(3)]
    image = x.view(2, *grid, width)
    sampled = torch.stack([bilinear(image, row, column) for row in rows for column in columns], dim=1)
    plain = nn.MultiheadAttention(width, 4, batch_first=True)
    with torch.no_grad():
        projections = (deformable.query, deformable.key, deformable.value)
        plain.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        plain.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
        plain.out_proj.load_state_dict(deformable.out.state_dict())
    expected = plain(x, sampled, sampled)[0]
    torch.testing.assert_close(deformable(x, grid), expected, atol=1e-5, rtol=1e-5)


def bilinear(image: Tensor, row: float, column: float) -> Tensor:
    """(B, d) of (B, h, w, d) at a fractional place."""
    r, c = int(row), int(column)
    dr, dc = row - r, column - c
    top = image[:, r, c] * (1 - dc) + image[:, r, c + 1] * dc
    bottom = image[:, r + 1, c] * (1 - dc) + image[:, r + 1, c + 1] * dc
    return top * (1 - dr) + bottom * dr


def test_offsets_learn_and_stay_inside() -> None:
    torch.manual_seed(0)
    deformable = DeformableSelfAttention(16, heads=4, groups=2, stride=2, kernel=3)
    x = torch.randn(2, 48, 16)
    deformable(x, (8, 6)).square().sum().backward()
    assert deformable.offset_out.weight.grad.abs().sum() > 0
    assert deformable.offset_conv.weight.grad.abs().sum() > 0
    with torch.no_grad():
        deformable.offset_out.weight.mul_(1000)
        points = deformable.sampling_points(deformable.query(x), (8, 6))
    assert points.shape == (4, 4, 3, 2)
    assert points.abs().max() == 1


def test_stage_by_hand(backbone: Backbone) -> None:
    torch.manual_seed(0)
    stage = BiCMCI(128, 128, 16, 2, 2, 2, 3, temperature=0.1)
    patches, text = torch.randn(2, 16, 128), F.normalize(torch.randn(2, 2, 128), dim=-1)
    joint = F.normalize(torch.randn(2, 16, 128), dim=-1)
    found = stage(patches, joint, text, (4, 4))
    f, t = stage.vision_in(patches), stage.text_in(text)
    t = t + attend(stage.text_attention, stage.text_norm(t))
    f = f + stage.vision_attention(stage.vision_norm(f), (4, 4))
    fn, tn = stage.vision_cross_norm(f), stage.text_cross_norm(t)
    f2 = f + stage.text_to_vision(fn, tn, tn)[0]
    t2 = t + stage.vision_to_text(tn, fn, fn)[0]
    cosine = F.cosine_similarity(f2[:, :, None], t2[:, None], dim=-1)  # (B, P, 2)
    expected = torch.sigmoid((cosine[..., 1] - cosine[..., 0]) / 0.1)
    torch.testing.assert_close(found.flatten(1), expected, atol=1e-5, rtol=1e-5)


def test_in_clip_space_training_starts_from_clips_map() -> None:
    torch.manual_seed(0)
    stage = BiCMCI(128, 128, 16, 2, 2, 2, 3, temperature=0.1, in_clip_space=True)
    patches = torch.randn(2, 16, 128)
    joint, text = F.normalize(torch.randn(2, 16, 128), dim=-1), F.normalize(torch.randn(2, 2, 128), dim=-1)
    expected = torch.sigmoid((joint @ (text[:, 1] - text[:, 0])[..., None])[..., 0] / 0.1)
    torch.testing.assert_close(stage(patches, joint, text, (4, 4)).flatten(1), expected, atol=1e-5, rtol=1e-5)
    nn.init.normal_(stage.vision_out.weight)
    assert (stage(patches, joint, text, (4, 4)).flatten(1) - expected).abs().max() > 1e-2


def test_residual_adapter_starts_from_clips_feature() -> None:
    image = F.normalize(torch.randn(2, 6), dim=-1)
    torch.testing.assert_close(ConvAdapter(6, 3, residual=True)(image), image)


def test_adapter_is_equation_11() -> None:
    torch.manual_seed(0)
    adapter = ConvAdapter(6, 3)
    x = torch.randn(2, 6)
    centred = x - x.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    expected = torch.relu(normed @ adapter.down.weight.T) @ adapter.up.weight.T
    torch.testing.assert_close(adapter(x), expected / expected.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-5)


def test_output_is_equations_9_to_12(method: KAnoCLIP, batch: Batch, backbone: Backbone) -> None:
    with torch.no_grad():
        output = method(batch)
        text = torch.stack([method.prompts(backbone, [name])[0] for name in batch.class_names])
        local = {tap: tokens[:, 1:] for tap, tokens in batch.features.local.items()}
        stages = [
            method.stages[str(tap)](local[tap], backbone.project(local[tap]), text, (4, 4)) for tap in backbone.quarters
        ]
        maps = sum(stages) / 4
        image = method.adapter(backbone.project(batch.features.cls))
    torch.testing.assert_close(output.map_probability, maps)
    logits = (image[:, None] * text).sum(-1) / 0.07
    expected = logits.exp() / logits.exp().sum(1, keepdim=True)
    torch.testing.assert_close(output.image_probability, expected[:, 1], atol=1e-5, rtol=1e-5)
    full = F.interpolate(maps[:, None], (32, 32), mode="bilinear")[:, 0].numpy()
    peaks = [gaussian_filter(m, 4 * 32 / 518).max() for m in full]
    torch.testing.assert_close(output.map_score, torch.tensor(peaks), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.image_score, (output.image_probability + output.map_score) / 2)


def test_losses_are_equations_13_to_15(method: KAnoCLIP, batch: Batch, backbone: Backbone) -> None:
    with torch.no_grad():
        losses, output = method.losses(batch), method(batch)
        text = method.prompts(backbone, ["nut", "bolt"])
    score, label = output.image_score, batch.labels.float()
    bce = -(label * score.log() + (1 - label) * (1 - score).log()).mean()
    torch.testing.assert_close(losses["global"], bce, atol=1e-5, rtol=1e-5)
    hinges = []
    for row, name in enumerate(("nut", "bolt")):
        k = backbone.encode_text([f"a {name} with a crack", f"a broken {name}"]).mean(0)
        k = k / k.norm()
        hinges.append(max(0.0, float((k - text[row, 1]).norm() - (k - text[row, 0]).norm())))
    assert losses["knowledge"].item() == pytest.approx(sum(hinges) / 2, abs=1e-5)
    assert set(losses) == {"knowledge", "global", "focal", "dice_normal", "dice_abnormal"}
    maps = F.interpolate(output.map_probability[:, None], (32, 32), mode="bilinear")[:, 0]
    mask = batch.masks.float()
    overlap, size = (maps * mask).sum((1, 2)), maps.sum((1, 2)) + mask.sum((1, 2))
    torch.testing.assert_close(losses["dice_abnormal"], (1 - (2 * overlap + 1) / (size + 1)).mean())


def test_every_learned_parameter_gets_a_gradient(method: KAnoCLIP, batch: Batch) -> None:
    sum(method.losses(batch).values()).backward()
    still = [name for name, p in method.learned().items() if p.grad is None or p.grad.abs().sum() == 0]
    # keys have a bias that softmax cancels; in_proj holds it together with others, the deformable key has its own
    assert [name for name in still if not name.endswith("vision_attention.key.bias")] == []
