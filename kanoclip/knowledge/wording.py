"""Turn a model's answer into a text that fits into CLIP's context."""

import re
import unicodedata
from functools import cache
from typing import Any

CONTEXT = 77  # tokens that CLIP reads, start and end included

THOUGHTS = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)  # of models that write out their reasoning
LIST_MARK = re.compile(r"^[ \t]*(?:[-*•#]+|\d+[.)])\s+", re.MULTILINE)
EMPHASIS = re.compile(r"\*+|`+")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
REFUSAL = re.compile(
    r"(i['’]?m|i am|we are) (very |really )?(sorry|unable|afraid|not able)|sorry\b|i apologi[sz]e|unfortunately, i\b"
    r"|i (can ?not|can['’]t|won['’]t|do not|don['’]t) (assist|help|see|view|provide|identify|describe|process|have)"
    r"|as an ai\b",
    re.IGNORECASE,
)


def tidy(answer: str) -> str:
    """Return an answer as plain text on one line: without thoughts, list marks and emphasis."""
    plain = " ".join(EMPHASIS.sub("", LIST_MARK.sub("", THOUGHTS.sub("", answer))).split())
    # control characters, marks that turn the direction of writing, and characters without a meaning
    return "".join(character for character in plain if unicodedata.category(character)[0] != "C")


def is_refusal(text: str) -> bool:
    """Return whether a tidy answer begins by declining to answer."""
    return REFUSAL.match(text) is not None


def fit(text: str, cut_off: bool = False) -> str:
    """Return the first whole sentences that CLIP can read together; empty if not even the first fits.

    Args:
        text: tidy.
        cut_off: the end of the text is missing, so a last sentence without an end is dropped.
    """
    sentences = SENTENCE_END.split(text)
    if cut_off and not sentences[-1].endswith((".", "!", "?")):
        sentences.pop()
    while sentences and count_tokens(" ".join(sentences)) > CONTEXT:
        sentences.pop()
    return " ".join(sentences)


def count_tokens(text: str) -> int:
    """Return the CLIP tokens of a text, start and end included."""
    return len(_tokenizer().encode(text)) + 2


@cache
def _tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer  # imports torch, so only when a model is asked

    return SimpleTokenizer()
