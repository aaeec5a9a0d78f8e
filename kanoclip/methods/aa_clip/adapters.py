"""The learned modules of AA-CLIP: residual adapters in both towers, and layers that replace CLIP's projections."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.backbones.tower import Tower
from kanoclip.prompts.ensemble import text_vectors

ENSEMBLE = "aa_clip"
QUARTER = 4  # adapters follow the first 3 of 12 text blocks, the first 6 of 24 image blocks


def depth(layers: int) -> int:
    """Return how many blocks of a tower have adapters: the first quarter, rounded, at least one."""
    return max(1, round(layers / QUARTER))


class ResidualAdapters(nn.Module):
    """An adapter after each of the first blocks of a tower.

    Args:
        width: W, the tower's width.
        count: number of adapters, one per block.
        share: lambda, the weight of an adapter's output.
    """

    def __init__(self, width: int, count: int, share: float):
        super().__init__()
        self.share = share
        self.layers = nn.ModuleList(_linear(width, width) for _ in range(count))

    def forward(self, number: int, x: Tensor) -> Tensor:
        """Adapt the input of a block, which is the output of the block before.

        Args:
            number: number of the block that receives the result, counted from 1.
            x: (..., W).

        Returns:
            (..., W): (1 - lambda) x + lambda |x| a / |a| with a = LeakyReLU(W x), or x if the block has no adapter.
        """
        if not 2 <= number <= len(self.layers) + 1:
            return x
        added = F.leaky_relu(self.layers[number - 2](x))
        rescaled = F.normalize(added, dim=-1) * x.norm(dim=-1, keepdim=True)
        return (1 - self.share) * x + self.share * rescaled


class TextAnchors(nn.Module):
    """The text side: adapters in the text tower, and a layer in place of its projection.

    Args:
        width: D, of the text tower.
        joint_width: C.
        layers: blocks of the text tower.
        share: lambda.
    """

    def __init__(self, width: int, joint_width: int, layers: int, share: float):
        super().__init__()
        self.adapters = ResidualAdapters(width, depth(layers), share)
        self.projection = _linear(width, joint_width)

    def forward(self, backbone: Backbone, class_names: Sequence[str]) -> Tensor:
        """Return the anchors of n classes: (n, 2, C) unit vectors, normal then abnormal."""
        return torch.stack(
            [text_vectors(lambda texts: self._encode(backbone, texts), ENSEMBLE, name) for name in class_names]
        )

    def _encode(self, backbone: Backbone, texts: Sequence[str]) -> Tensor:
        """Return (T, C) features of texts, not normalised."""
        tokens = backbone.tokenize(list(texts)).to(backbone.device)
        embeddings = backbone.text.token_embedding(tokens)
        return backbone.encode_embeddings(embeddings, tokens, self.adapters, self._project)

    def _project(self, ends: Tensor) -> Tensor:
        return F.leaky_relu(self.projection(ends))


class ImageAdapters(nn.Module):
    """The image side: adapters in the image tower, a segmentation head per level, one detection head.

    Args:
        width: W, of the image tower.
        joint_width: C.
        layers: blocks of the image tower.
        levels: blocks whose tokens make the maps, ascending; the last one also gives the image score.
        share: lambda.
    """

    def __init__(self, width: int, joint_width: int, layers: int, levels: Sequence[int], share: float):
        super().__init__()
        self.levels = tuple(levels)
        self.adapters = ResidualAdapters(width, depth(layers), share)
        self.segmentation = nn.ModuleList(_linear(width, joint_width) for _ in levels)
        self.detection = _linear(width, joint_width)

    def forward(self, tower: Tower, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the tower with its adapters, from the output of the first block on.

        Args:
            tower: CLIP's image tower.
            x: (B, 1 + P, W) tokens after the first block.

        Returns:
            Patches (B, K, P, C), unit vectors at K levels, and image features (B, C), means of unit vectors.
        """
        taps = [Tap("tokens", level) for level in self.levels]
        found = tower.run(x, start=1, before_block=self.adapters, watch=taps)
        tokens = [tower.final_norm(found[tap][:, 1:].float()) for tap in taps]  # K x (B, P, W)
        patches = [
            F.normalize(head(of_level), dim=-1) for head, of_level in zip(self.segmentation, tokens, strict=True)
        ]
        return torch.stack(patches, dim=1), F.normalize(self.detection(tokens[-1]), dim=-1).mean(1)


def _linear(width: int, into: int) -> nn.Linear:
    """Return a linear layer without bias, initialised as in the released code."""
    layer = nn.Linear(width, into, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer
