import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kanoclip.backbones.clip import Backbone
from kanoclip.prompts.deep import DeepPrompts
from kanoclip.prompts.learned import LearnedPrompts

NORMAL_AND_DAMAGED = (("",), ("damaged",))


def block_inputs(backbone: Backbone, text: str) -> list[Tensor]:
    """Return the input (1, L, D) of each text block."""
    seen: list[Tensor] = []

    def keep(number: int, x: Tensor) -> Tensor:
        if number <= backbone.text_layers:
            seen.append(x)
        return x

    with torch.no_grad():
        tokens = backbone.tokenize([text])
        backbone.encode_embeddings(backbone.text.token_embedding(tokens), tokens, keep)
    return seen


def test_a_hook_that_returns_its_input_changes_nothing(backbone: Backbone) -> None:
    text = "a photo of the pill."
    tokens = backbone.tokenize([text])
    found = backbone.encode_embeddings(backbone.text.token_embedding(tokens), tokens, lambda block, x: x)
    torch.testing.assert_close(found, backbone.clip.encode_text(tokens), atol=1e-5, rtol=1e-5)
    assert len(block_inputs(backbone, text)) == backbone.text_layers == 3


def test_the_hook_runs_after_the_last_block_and_the_projection_can_be_replaced(backbone: Backbone) -> None:
    tokens = backbone.tokenize(["a pill.", "a photo of the pill."])
    embeddings = backbone.text.token_embedding(tokens)
    numbers: list[int] = []

    def double_the_output(number: int, x: Tensor) -> Tensor:
        numbers.append(number)
        return 2 * x if number == backbone.text_layers + 1 else x

    ends = []
    with torch.no_grad():
        found = backbone.encode_embeddings(embeddings, tokens, double_the_output)
        backbone.encode_embeddings(embeddings, tokens, project=lambda x: ends.append(x) or x)
    assert numbers == [1, 2, 3, 4]
    # the final layer norm removes the factor, except for its epsilon
    torch.testing.assert_close(found, backbone.encode_text(["a pill.", "a photo of the pill."]), atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(ends[0] @ backbone.text.text_projection, backbone.clip.encode_text(tokens))


@pytest.mark.parametrize("length", [1, 2, 4])
def test_replacing_tokens_by_their_own_values_changes_nothing(backbone: Backbone, length: int) -> None:
    """Attention is causal, so inner tokens of the first words do not depend on later words and fit all texts."""
    inner = [x[0, 1 : 1 + length] for x in block_inputs(backbone, "a photo of the moon")]
    deep = DeepPrompts(backbone.text_width, depth=3, length=length)
    prompts = LearnedPrompts(backbone.text_width, 4, NORMAL_AND_DAMAGED, deep=deep)
    with torch.no_grad():
        words = backbone.text.token_embedding(backbone.tokenize(["a photo of the"]))[0, 1:5]
        prompts.context.copy_(words.expand(2, -1, -1))
        deep.layers.copy_(torch.stack(inner[1:]))
        found = prompts(backbone, ["pill"])[0]
    expected = F.normalize(backbone.encode_text(["a photo of the pill.", "a photo of the damaged pill."]), dim=-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_only_the_first_context_tokens_of_blocks_2_to_depth_are_replaced() -> None:
    torch.manual_seed(0)
    deep = DeepPrompts(text_width=5, depth=3, length=2)
    x = torch.randn(4, 7, 5)
    for block in (1, 4, 5):
        assert deep(block, x) is x
    for block in (2, 3):
        found = deep(block, x)
        for text in range(4):
            for token in range(7):
                expected = deep.layers[block - 2, token - 1] if token in (1, 2) else x[text, token]
                assert torch.equal(found[text, token], expected)


def test_depth_1_has_no_learned_tokens(backbone: Backbone) -> None:
    torch.manual_seed(0)
    plain = LearnedPrompts(backbone.text_width, 3, NORMAL_AND_DAMAGED)
    torch.manual_seed(0)
    deep = LearnedPrompts(
        backbone.text_width, 3, NORMAL_AND_DAMAGED, deep=DeepPrompts(backbone.text_width, depth=1, length=2)
    )
    with torch.no_grad():
        deep.context.copy_(plain.context)
        torch.testing.assert_close(deep(backbone, ["pill"]), plain(backbone, ["pill"]))


def test_every_layer_of_deep_prompts_gets_a_gradient(backbone: Backbone) -> None:
    torch.manual_seed(0)
    deep = DeepPrompts(backbone.text_width, depth=3, length=2)
    prompts = LearnedPrompts(backbone.text_width, 3, NORMAL_AND_DAMAGED, deep=deep)
    prompts(backbone, ["pill"])[..., 0].sum().backward()
    assert (deep.layers.grad.abs().sum(-1) > 0).all()
    assert (prompts.context.grad.abs().sum(-1) > 0).all()  # later blocks replace it, but the first block reads it


def test_more_tokens_than_the_context_has_are_refused() -> None:
    with pytest.raises(ValueError, match="replace 4 tokens, the context has 3"):
        LearnedPrompts(8, 3, NORMAL_AND_DAMAGED, deep=DeepPrompts(8, depth=2, length=4))
