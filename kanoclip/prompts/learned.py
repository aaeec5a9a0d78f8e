"""Learned prompts: word embeddings in front of a state word and a class name (CoOp, Zhou et al. 2022)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.prompts.deep import DeepPrompts

PLACEHOLDER = "x"  # one token; its embedding is replaced by a learned one
INITIAL_STD = 0.02  # as in CoOp


class LearnedPrompts(nn.Module):
    """Normal and abnormal prompts [v_1] ... [v_K] [word] [class]. (KAnoCLIP, section 2.2).

    The prompts end with a period.

    Args:
        text_width: D, of a word embedding.
        length: K, learned embeddings per prompt.
        words: the state words of the normal and of the abnormal prompts; "" is none.
        per_word: each word has a context of its own; otherwise the words of a polarity share one.
        noun: takes the place of every class name (AnomalyCLIP: "object").
        deep: context tokens inside the text tower as well.
    """

    def __init__(
        self,
        text_width: int,
        length: int,
        words: tuple[Sequence[str], Sequence[str]],
        *,
        per_word: bool = False,
        noun: str | None = None,
        deep: DeepPrompts | None = None,
    ):
        super().__init__()
        if deep and deep.length > length:
            raise ValueError(f"deep prompts replace {deep.length} tokens, the context has {length}")
        self.length = length
        self.words = words
        self.noun = noun
        self.deep = deep
        self.contexts = [len(polarity) if per_word else 1 for polarity in words]
        self.context = nn.Parameter(torch.randn(sum(self.contexts), length, text_width) * INITIAL_STD)  # (., K, D)

    def forward(self, backbone: Backbone, class_names: Sequence[str]) -> Tensor:
        """Return (n, 2, C) unit text vectors of n classes, normal then abnormal: the mean over the words' vectors."""
        names = [self.noun] if self.noun else class_names
        polarities = []
        for context, words in zip(self.context.split(self.contexts), self.words, strict=True):
            texts = [prompt_text(self.length, word, name) for name in names for word in words]
            learned = context.expand(len(words), -1, -1).repeat(len(names), 1, 1)  # (n words, K, D)
            vectors = F.normalize(self.encode(backbone, texts, learned), dim=-1)
            polarities.append(vectors.view(len(names), len(words), -1).mean(1))
        return F.normalize(torch.stack(polarities, dim=1), dim=-1).expand(len(class_names), -1, -1)

    def encode(self, backbone: Backbone, texts: Sequence[str], context: Tensor) -> Tensor:
        """Encode texts whose first words, all placeholders, are replaced by the context: (T, C), not normalised.

        Args:
            backbone: whose text tower reads them.
            texts: T of them, each with at least as many placeholders as the context has embeddings.
            context: (K, D) for all, or (T, K, D); K may exceed `length` by embeddings that are not learned.
        """
        tokens = backbone.tokenize(list(texts)).to(context.device)  # (T, 77)
        embeddings = backbone.text.token_embedding(tokens)  # (T, 77, D)
        start, rest = embeddings[:, :1], embeddings[:, 1 + context.shape[-2] :]
        learned = context.expand(len(tokens), -1, -1)
        return backbone.encode_embeddings(torch.cat([start, learned, rest], dim=1), tokens, self.deep)


def prompt_text(length: int, word: str, name: str) -> str:
    """Return a text with placeholders for learned words: "x x x damaged object."."""
    return " ".join([PLACEHOLDER] * length + [part for part in (word, name) if part]) + "."
