import pytest
import torch
import torch.nn.functional as F

from kanoclip.backbones.clip import Backbone
from kanoclip.prompts.ensemble import prompts, text_vectors
from kanoclip.prompts.learned import LearnedPrompts


def test_clip_has_two_prompts() -> None:
    assert prompts("clip", "normal", "metal nut") == ["a photo of a normal metal nut"]
    assert prompts("clip", "abnormal", "metal nut") == ["a photo of an anomalous metal nut"]


def test_clip_ac_has_35_distinct_prompts_per_polarity() -> None:
    for polarity in ("normal", "abnormal"):
        texts = prompts("clip_ac", polarity, "cable")
        assert len(set(texts)) == 35
        assert all("cable" in text and text.endswith(".") for text in texts)


@pytest.mark.parametrize(("ensemble", "normal", "abnormal"), [("winclip", 154, 88), ("april_gan", 245, 175)])
def test_sizes_of_compositional_ensembles(ensemble: str, normal: int, abnormal: int) -> None:
    """22 templates times 7 normal and 4 abnormal states; 35 times 7 and 5."""
    good, bad = (prompts(ensemble, polarity, "metal nut") for polarity in ("normal", "abnormal"))
    assert (len(set(good)), len(set(bad))) == (len(good), len(bad)) == (normal, abnormal)
    assert all("metal nut" in text and text.endswith(".") for text in good + bad)
    assert "a photo of the metal nut with flaw." in bad and "a close-up photo of a flawless metal nut." in good
    assert ("a photo of the broken metal nut." in bad) == (ensemble == "april_gan")


def test_an_ensemble_is_the_mean_of_unit_vectors(backbone: Backbone) -> None:
    found = text_vectors(backbone.encode_text, "clip_ac", "cable")
    for row, polarity in enumerate(("normal", "abnormal")):
        total = torch.zeros(128)
        for text in prompts("clip_ac", polarity, "cable"):
            vector = backbone.encode_text([text])[0]
            total += vector / vector.norm()
        torch.testing.assert_close(found[row], total / total.norm(), atol=1e-5, rtol=1e-5)


def test_embeddings_of_words_as_learned_vectors_give_the_text_feature(backbone: Backbone) -> None:
    """With the embeddings of "a photo of the" as the four learned vectors, the result is encode_text of that text."""
    learned = LearnedPrompts(backbone.text_width, 4, (("normal",), ("abnormal",)))
    with torch.no_grad():
        words = backbone.text.token_embedding(backbone.tokenize(["a photo of the"]))[0, 1:5]
        learned.context.copy_(words.expand(2, -1, -1))
        found = learned(backbone, ["metal nut", "pill"])
    for row, name in enumerate(("metal nut", "pill")):
        for column, word in enumerate(("normal", "abnormal")):
            expected = F.normalize(backbone.encode_text([f"a photo of the {word} {name}."])[0], dim=-1)
            torch.testing.assert_close(found[row, column], expected, atol=1e-5, rtol=1e-5)


def test_words_of_a_polarity_are_averaged(backbone: Backbone) -> None:
    torch.manual_seed(0)
    both = LearnedPrompts(backbone.text_width, 3, (("normal", "perfect"), ("abnormal", "defective")))
    singles = []
    with torch.no_grad():
        for pair in zip(*both.words, strict=True):
            single = LearnedPrompts(backbone.text_width, 3, tuple((word,) for word in pair))
            single.context.copy_(both.context)
            singles.append(single(backbone, ["pill"]))
        expected = F.normalize(torch.stack(singles).mean(0), dim=-1)
        torch.testing.assert_close(both(backbone, ["pill"]), expected, atol=1e-5, rtol=1e-5)


def test_only_the_context_gets_a_gradient(backbone: Backbone) -> None:
    learned = LearnedPrompts(backbone.text_width, 3, (("normal",), ("abnormal",)))
    (learned(backbone, ["pill"])[:, 1].sum() + learned(backbone, ["pill"])[:, 0, 0].sum()).backward()
    assert (learned.context.grad.abs().sum(-1) > 0).all()
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_a_noun_can_replace_every_class_name(backbone: Backbone) -> None:
    """AnomalyCLIP uses "x x object." and "x x damaged object." for every class."""
    learned = LearnedPrompts(backbone.text_width, 2, (("",), ("damaged",)), noun="object")
    with torch.no_grad():
        words = backbone.text.token_embedding(backbone.tokenize(["the small"]))[0, 1:3]
        learned.context.copy_(words.expand(2, -1, -1))
        found = learned(backbone, ["metal nut", "pill", "cable"])
    expected = F.normalize(backbone.encode_text(["the small object.", "the small damaged object."]), dim=-1)
    torch.testing.assert_close(found, expected.expand(3, -1, -1), atol=1e-5, rtol=1e-5)


def test_each_word_can_have_its_own_context(backbone: Backbone) -> None:
    torch.manual_seed(0)
    words = (("normal", "perfect"), ("abnormal", "defective", "broken"))
    learned = LearnedPrompts(backbone.text_width, 3, words, per_word=True)
    assert learned.context.shape == (5, 3, backbone.text_width)
    with torch.no_grad():
        for name_row, name in enumerate(("pill", "metal nut")):
            contexts = iter(learned.context)
            for column, polarity in enumerate(words):
                vectors = []
                for word in polarity:
                    text = learned.encode(backbone, [f"x x x {word} {name}."], next(contexts))[0]
                    vectors.append(text / text.norm())
                mean = sum(vectors) / len(vectors)
                found = learned(backbone, ["pill", "metal nut"])[name_row, column]
                torch.testing.assert_close(found, mean / mean.norm(), atol=1e-5, rtol=1e-5)
