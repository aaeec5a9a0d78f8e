"""The frozen text tower of a CLIP model, with hooks for learned word embeddings and learned tokens between blocks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Hook = Callable[[int, Tensor], Tensor]
Projection = Callable[[Tensor], Tensor]


class TextTower(nn.Module):
    """A text transformer of open_clip.

    Args:
        text: the CLIP model itself, or its `text` part.
        tokenize: texts to (T, 77) token ids.

    Attributes:
        layers: number of blocks.
        width: D, of a word embedding.
    """

    text: Any

    def __init__(self, text: Any, tokenize: Callable[[list[str]], Tensor]):
        super().__init__()
        self.text, self.tokenize = text, tokenize
        self.layers: int = len(text.transformer.resblocks)
        self.width: int = text.token_embedding.embedding_dim

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return unnormalised features (T, C) like `open_clip.CLIP.encode_text`; texts over 77 tokens are truncated."""
        tokens = self.tokenize(list(texts)).to(self.text.positional_embedding.device)
        return self.run(self.text.token_embedding(tokens), tokens)

    def run(
        self,
        embeddings: Tensor,
        tokens: Tensor,
        before_block: Hook | None = None,
        project: Projection | None = None,
    ) -> Tensor:
        """Run the tower on word embeddings, some of which may be learned.

        Args:
            embeddings: (T, L, D) one vector per token, position table not yet added.
            tokens: (T, L) token ids of the same texts, which mark the end of each text.
            before_block: returns the input that a block gets instead, from the block's number and input (T, L', D). As
                in `Tower.run`, it is called once more after the last block, so that adapters may follow any block.
            project: maps the end-of-text tokens after the final layer norm (T, D) to the joint space (T, C); default:
                the tower's own projection.

        Returns:
            (T, C), not normalised.
        """
        text = self.text
        end = tokens.argmax(dim=-1)  # the end-of-text token has the largest id
        causal = text.attn_mask is not None
        known = causal and not end.is_meta  # tensors of the meta device have shapes and no values
        length = int(end.max()) + 1 if known else embeddings.shape[1]  # causal: tokens after the end have no effect
        x = embeddings[:, :length] + text.positional_embedding[:length]
        mask = text.attn_mask[:length, :length] if causal else None
        for number, block in enumerate(text.transformer.resblocks, start=1):
            x = block(before_block(number, x) if before_block else x, attn_mask=mask)
        if before_block:
            x = before_block(self.layers + 1, x)
        x = text.ln_final(x)
        ends = x[torch.arange(len(x), device=x.device), end]
        return (project or self._project)(ends)

    def _project(self, ends: Tensor) -> Tensor:
        """Return the trained projection: (T, D) to (T, C)."""
        trained = self.text.text_projection
        if isinstance(trained, nn.Linear):
            return trained(ends)
        return ends if trained is None else ends @ trained
