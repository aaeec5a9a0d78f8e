"""Learned prompts: word embeddings in front of a state word and a class name (CoOp, Zhou et al. 2022)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone

PLACEHOLDER = "x"  # one token; its embedding is replaced by a learned one
INITIAL_STD = 0.02  # as in CoOp


class LearnedPrompts(nn.Module):
    """Normal and abnormal prompts [v_1] ... [v_K] [word] [class]. (KAnoCLIP, section 2.2).

    The words of a polarity share its learned context; the prompts end with a period.

    Args:
        text_width: D, of a word embedding.
        length: K, learned embeddings a polarity.
        words: the state words of the normal and of the abnormal prompts.
    """

    def __init__(self, text_width: int, length: int, words: tuple[Sequence[str], Sequence[str]]):
        super().__init__()
        self.length = length
        self.words = words
        self.context = nn.Parameter(torch.randn(2, length, text_width) * INITIAL_STD)  # (2, K, D)

    def forward(self, backbone: Backbone, class_names: Sequence[str]) -> Tensor:
        """(n, 2, C) unit text vectors of n classes, normal then abnormal: the mean over the words' unit vectors."""
        polarities = []
        for context, words in zip(self.context, self.words, strict=True):
            texts = [f"{self._placeholders} {word} {name}." for name in class_names for word in words]
            vectors = F.normalize(self.encode(backbone, texts, context), dim=-1)
            polarities.append(vectors.view(len(class_names), len(words), -1).mean(1))
        return F.normalize(torch.stack(polarities, dim=1), dim=-1)

    @property
    def _placeholders(self) -> str:
        return " ".join([PLACEHOLDER] * self.length)

    def encode(self, backbone: Backbone, texts: Sequence[str], context: Tensor) -> Tensor:
        """(T, C), not normalised: texts that begin with K placeholders, these replaced by the context (K, D)."""
        tokens = backbone.tokenize(list(texts)).to(context.device)  # (T, 77)
        embeddings = backbone.text.token_embedding(tokens)  # (T, 77, D)
        start, rest = embeddings[:, :1], embeddings[:, 1 + self.length :]
        learned = context.expand(len(tokens), -1, -1)
        return backbone.encode_embeddings(torch.cat([start, learned, rest], dim=1), tokens)
