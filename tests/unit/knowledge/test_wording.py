import pytest
from open_clip.tokenizer import SimpleTokenizer, tokenize

from kanoclip.knowledge.wording import CONTEXT, count_tokens, fit, is_refusal, tidy

SENTENCE = "The bottle has a crack."  # 6 tokens with its full stop


def test_the_number_of_tokens_equals_clips() -> None:
    for text in ("", "A nut.", SENTENCE * 3, "Überzug, 3 mm × 4 mm"):
        assert count_tokens(text) == int((tokenize(text)[0] != 0).sum())


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("  A crack.\n\nAnd a\tstain. ", "A crack. And a stain."),
        ("**Crack:** a dark line.", "Crack: a dark line."),
        (
            "1. A crack.\n2) A stain.\n- A hole.\n* A cut.\n• A dent.\n## Others",
            "A crack. A stain. A hole. A cut. A dent. Others",
        ),
        ("<think>Hm. A bottle?</think>\nA crack.", "A crack."),
        ("<think>Hm. A bottle? And so", ""),
        ("3.5 mm long - at the rim", "3.5 mm long - at the rim"),
    ],
)
def test_formatting_is_removed_from_answers(answer: str, text: str) -> None:
    assert tidy(answer) == text
    assert tidy(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m unable to view images.",
        "I cannot assist with this request.",
        "I can't identify anomalies here.",
        "I am sorry.",
        "Sorry, no.",
        "As an AI, I see nothing.",
        "Unfortunately, I see nothing.",
    ],
)
def test_refusals_are_recognised(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text", ["In the image I cannot be sure, but a crack shows.", "I see a crack.", "A sorry-looking nut.", ""]
)
def test_other_answers_are_not_refusals(text: str) -> None:
    assert not is_refusal(text)


def test_sentences_that_fit_in_clips_context_are_kept() -> None:
    assert fit(SENTENCE) == SENTENCE
    twelve = " ".join([SENTENCE] * 12)  # 72 tokens, 74 with start and end
    assert fit(twelve) == twelve
    assert fit(twelve + " It is long.") == twelve
    assert fit(" ".join([SENTENCE] * 40)) == twelve
    assert fit("crack " * 80) == ""
    assert max(len(SimpleTokenizer().encode(fit("Yes. " * n))) for n in range(1, 60)) <= CONTEXT - 2


def test_the_beginning_of_a_sentence_is_dropped() -> None:
    assert fit("A crack. A dark li", cut_off=True) == "A crack."
    assert fit("A dark li", cut_off=True) == ""
    assert fit("A crack. A stain.", cut_off=True) == "A crack. A stain."
    assert fit("A crack. A stain at the rim") == "A crack. A stain at the rim"
