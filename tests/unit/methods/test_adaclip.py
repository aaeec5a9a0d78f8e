from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from kanoclip.augmentation import Mosaic
from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.methods.adaclip import ENSEMBLE, MAX_LENGTH, AdaClip, AdaClipOptions
from kanoclip.methods.base import Batch
from kanoclip.prompts.ensemble import prompts
from kanoclip.types import InputError


def build(backbone: Any, **options: Any) -> AdaClip:
    torch.manual_seed(0)
    return AdaClip(backbone, AdaClipOptions(**options), seed=0).eval()


@pytest.fixture(scope="module")
def batch(backbone: Backbone) -> Batch:
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    masks[1, 4:9, 4:9] = masks[3, 20:30, 1:8] = True
    features = backbone.encode_images(pixels, [Tap("tokens", 0), Tap("cls", 6)])
    return Batch(list("abcd"), ["nut", "nut", "bolt", "bolt"], features, torch.tensor([0, 1, 0, 1]), masks)


def large() -> SimpleNamespace:
    """Return the sizes of ViT-L/14, without its weights."""
    model = open_clip.get_model_config(AdaClip.published_backbone["model"])
    vision, text = model["vision_cfg"], model["text_cfg"]
    return SimpleNamespace(
        eval=lambda: None,
        tower=SimpleNamespace(rotary=False),
        layers=vision["layers"],
        width=vision["width"],
        joint_width=model["embed_dim"],
        text_layers=text["layers"],
        text_width=text["width"],
        quarters=(6, 12, 18, 24),
    )


def released(backbone: Any, seed: int = 0) -> dict[str, Tensor]:
    """Return random tensors in the layout of the authors' file."""
    g = torch.Generator().manual_seed(seed)
    width, joint, text = backbone.width, backbone.joint_width, backbone.text_width
    shapes: dict[str, tuple[int, ...]] = {}
    for tower, of in (("visual", width), ("text", text)):
        for number in range(min(4, backbone.layers if tower == "visual" else backbone.text_layers)):
            shapes[f"{tower}_prompter.static_prompts.{number}"] = (5, of)
        for number in range(5):
            shapes[f"dynamic_{tower}_prompt_generator.head.{number}.weight"] = (of, joint)
            shapes[f"dynamic_{tower}_prompt_generator.head.{number}.bias"] = (of,)
    for layers, count, wide in (("patch_token_layer", 4, width), ("cls_token_layer", 1, joint)):
        for number in range(count):
            shapes[f"{layers}.head.{number}.weight"] = (joint, wide)
            shapes[f"{layers}.head.{number}.bias"] = (joint,)
    return {f"clip_model.{name}": torch.randn(shape, generator=g) for name, shape in shapes.items()}


def test_parameter_count_on_vit_l_14() -> None:
    assert sum(parameter.numel() for parameter in build(large()).learned().values()) == 10_665_472


def test_the_released_checkpoint_has_the_learned_parameters_on_vit_l_14() -> None:
    state = released(large())
    assert sum(value.numel() for value in state.values()) == 10_665_472
    found, ours = AdaClip.from_published([state]), build(large()).learned()
    assert {name: value.shape for name, value in found.items()} == {name: value.shape for name, value in ours.items()}


def test_imported_tokens_equal_those_made_by_the_released_layers(backbone: Backbone) -> None:
    """Apply one linear layer after another per token, like the authors' module."""
    state, method = released(backbone), build(backbone)
    method.load_state_dict(AdaClip.from_published([state]), strict=False)
    context = torch.randn(3, backbone.joint_width, generator=torch.Generator().manual_seed(2))
    for ours, theirs, depth in ((method.vision, "visual", 4), (method.language, "text", 3)):
        made = ours(context)
        assert made.shape[:3] == (depth, 3, 5)
        for block in range(depth):
            static = state[f"clip_model.{theirs}_prompter.static_prompts.{block}"]
            for token in range(5):
                layer = f"clip_model.dynamic_{theirs}_prompt_generator.head.{token}"
                expected = static[token] + context @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]
                torch.testing.assert_close(made[block, :, token], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(method.patch_layers[2].bias, state["clip_model.patch_token_layer.head.2.bias"])
    torch.testing.assert_close(method.class_layer.weight, state["clip_model.cls_token_layer.head.0.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: [], "expected one file with a mapping of names to tensors, found none"),
        (lambda state: [[1, 2]], "expected one file with a mapping of names to tensors, found list"),
        (lambda state: [{}], "visual_prompter.static_prompts.0: expected a tensor, found nothing"),
        (
            lambda state: [{**state, "clip_model.cls_token_layer.head.0.bias": torch.tensor([float("nan")])}],
            "cls_token_layer.head.0.bias: expected finite floating-point numbers",
        ),
        (
            lambda state: [{**state, "clip_model.patch_token_layer.head.1.bias": torch.zeros(3)}],
            r"patch_token_layer.head.1.bias: expected shape \(128,\), as the first of its list, found \(3,\)",
        ),
    ],
)
def test_a_file_of_another_layout_is_refused(backbone: Backbone, change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AdaClip.from_published(change(released(backbone)))


def test_every_template_has_enough_words_to_overwrite(backbone: Backbone) -> None:
    """Before the class name, each template has the start of text and at least five words of one token."""
    for polarity, count in (("normal", 28), ("abnormal", 20)):
        texts = prompts(ENSEMBLE, polarity, "nut")
        assert len(texts) == count
        for text, other in zip(texts, prompts(ENSEMBLE, polarity, "zipper"), strict=True):
            tokens, others = backbone.tokenize([text, other]).tolist()
            same = next(place for place, pair in enumerate(zip(tokens, others, strict=True)) if pair[0] != pair[1])
            assert same > MAX_LENGTH
    with pytest.raises(ValueError, match="less than or equal to 5"):
        AdaClipOptions(prompt_length=6)


def test_text_depends_on_the_image(backbone: Backbone, batch: Batch) -> None:
    """Dynamic tokens differ between images of one class; without them, their texts are equal."""
    method = build(backbone)
    context = backbone.project(batch.features[Tap("cls", 6)], unit=False)
    with torch.no_grad():
        text = method._text(batch.class_names, method.language(context))
        assert not torch.allclose(text[0], text[1], atol=1e-4)
        method.language.dynamic.weight.zero_()
        text = method._text(batch.class_names, method.language(context))
        torch.testing.assert_close(text[0], text[1])
        assert not torch.allclose(text[0], text[2], atol=1e-4)  # an image of another class


def test_learned_tokens_are_kept_up_to_the_last_block(backbone: Backbone, batch: Batch) -> None:
    """Every block of the tower gets 17 + 5 tokens."""
    lengths: list[int] = []
    handles = [
        block.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[1]))
        for block in backbone.blocks
    ]
    try:
        with torch.no_grad():
            build(backbone)(batch)
    finally:
        for handle in handles:
            handle.remove()
    assert lengths == [22] * 6


def test_steps_along_the_gradient_lower_the_loss(backbone: Backbone, batch: Batch) -> None:
    method = build(backbone)
    (phase,) = method.phases()
    optimizer = phase.optimizer([{**group, "lr": 1e-3} for group in phase.groups])
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {(group["weight_decay"], group["betas"]) for group in optimizer.param_groups} == {(0.01, (0.5, 0.999))}
    values = []
    for _ in range(8):
        loss = torch.stack(list(phase.losses(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.8 * values[0]


def test_the_published_recipe_uses_mosaics_only_for_mvtec(backbone: Backbone) -> None:
    published = {**AdaClip.published, **AdaClip.published_on["mvtec_ad"]}
    assert AdaClipOptions(**published).mosaic == 0.2 and AdaClipOptions(**AdaClip.published).mosaic == 0
    method = build(backbone, mosaic=0.2)
    assert method.phases()[0].augment == Mosaic(0.2) and method.trains_on(method.options, backbone.shape) == frozenset()
    assert build(backbone).phases()[0].augment is None
