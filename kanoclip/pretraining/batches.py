"""Draw batches of augmented pairs from corpora on the tower's device."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanoclip.datasets.synthetic import Facts
from kanoclip.pretraining.augment import FOREIGNER, OWN, TRANSPLANT, Draw, framed, mixed, recoloured
from kanoclip.pretraining.codes import COLOUR, DEFECT, EXTENT, KIND, NOTHING, PLACE, STATE, UNKNOWN
from kanoclip.pretraining.composites import PAIRS_PER_SURFACE
from kanoclip.pretraining.corpus import LEAST_ANOMALOUS_PIXELS, Corpus


class DevicePool:
    """A corpus on a device.

    Attributes:
        images: (N, S, S, 3), 0..255.
        masks: (N, S, S / 8), bits.
        numbers: (N, 6) attribute values as numbers, on the CPU.
        facts: facts of every image.
        grouped: whether consecutive pairs show the same surface and are sampled together.
    """

    def __init__(self, corpus: Corpus, device: torch.device, grouped: bool) -> None:
        self.images, self.masks = (torch.from_numpy(a).to(device) for a in (corpus.images, corpus.masks))
        self.numbers, self.facts, self.grouped = corpus.numbers, corpus.facts, grouped

    def choose(self, count: int, random: torch.Generator) -> Tensor:
        """Return (count,) indices of distinct pairs; of grouped pairs, those of count / 2 surfaces."""
        group = PAIRS_PER_SURFACE if self.grouped else 1
        groups = torch.randperm(len(self.images) // (2 * group), generator=random, device=random.device)
        members = groups[: -(-count // group), None] * group + torch.arange(group, device=random.device)
        return members.flatten()[:count]

    def pairs(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (P, 2, 3, S, S) in 0..255, and the masks (P, S, S), 0 or 1, of the second images."""
        rows = (2 * chosen[:, None] + torch.arange(2, device=chosen.device)).flatten().to(self.images.device)
        images = self.images[rows].permute(0, 3, 1, 2).float().unflatten(0, (-1, 2))
        bits = 2 ** torch.arange(7, -1, -1, device=self.masks.device, dtype=torch.uint8)
        return images, ((self.masks[rows[1::2]][..., None] & bits) > 0).flatten(2).float()


@dataclass(frozen=True)
class DeviceViews:
    """A batch on the device.

    Attributes:
        images: (B, 3, S, S), about 0..255; each even row forms a pair with the next.
        masks: (B, S, S), 0 or 1.
        numbers: (B, 6) attribute numbers of what is visible.
        facts: facts of the images that the views come from.
    """

    images: Tensor
    masks: Tensor
    numbers: NDArray[np.int16]
    facts: list[Facts]


def device_views(pools: Sequence[DevicePool], count: int, size: int, seed: Sequence[int]) -> DeviceViews:
    """Return a random batch with an equal share from each pool.

    Args:
        pools: drawn pairs, composites.
        count: B, a multiple of twice the number of pools.
        size: pixels per side, at most that of the pools.
        seed: seed of the batch.
    """
    draw = draw_of_batch(pools, seed)
    images, masks, numbers, facts = crossed_pairs(pools, count, size, draw)
    return DeviceViews(recoloured(images, draw).flatten(0, 1), masks_of_views(masks), numbers, facts)


def draw_of_batch(pools: Sequence[DevicePool], seed: Sequence[int]) -> Draw:
    """Return the random numbers of a batch, on the device of its pools."""
    state = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    return Draw(torch.Generator(pools[0].images.device).manual_seed(state))


def crossed_pairs(
    pools: Sequence[DevicePool], count: int, size: int, draw: Draw
) -> tuple[Tensor, Tensor, NDArray[np.int16], list[Facts]]:
    """Choose pairs, frame them and cross some of them.

    Args:
        pools: drawn pairs, composites.
        count: B, a multiple of twice the number of pools.
        size: pixels per side, at most that of the pools.
        draw: chooses.

    Returns:
        Images (P, 2, 3, size, size), masks (P, size, size), the attribute numbers (B, 6) of the views, and their facts.
    """
    chosen = [pool.choose(count // (2 * len(pools)), draw.random) for pool in pools]
    parts = [pool.pairs(pairs) for pool, pairs in zip(pools, chosen, strict=True)]
    images, masks = (torch.cat(part) for part in zip(*parts, strict=True))
    rows = [(2 * pairs.cpu().numpy()[:, None] + np.arange(2)).ravel() for pairs in chosen]
    numbers = np.concatenate([pool.numbers[own] for pool, own in zip(pools, rows, strict=True)])
    facts = [pool.facts[row] for pool, own in zip(pools, rows, strict=True) for row in own]
    images, masks = framed(images, masks, size, draw)
    images, masks, mode = mixed(images, masks, draw)
    seen = numbers_of_views(numbers, masks.sum((1, 2)).cpu().numpy(), mode.cpu().numpy())
    return images, masks, seen, facts


def masks_of_views(masks: Tensor) -> Tensor:
    """Return the masks (2 P, S, S) of both images of pairs, empty for the first ones."""
    return torch.stack([torch.zeros_like(masks), masks], dim=1).flatten(0, 1)


def numbers_of_views(
    numbers: NDArray[np.int16], pixels: NDArray[np.floating], mode: NDArray[np.integer]
) -> NDArray[np.int16]:
    """Return the attribute numbers (B, 6) that are still known for views.

    Args:
        numbers: (B, 6) attribute numbers of the images; the two of a pair are consecutive.
        pixels: (B / 2,) anomalous pixels of the second images.
        mode: (B / 2,) how the pairs were crossed.
    """
    seen = numbers.copy()
    seen[:, COLOUR] = UNKNOWN
    seen[np.repeat(mode != OWN, 2), KIND] = UNKNOWN
    second = seen[1::2]
    moved = np.isin(mode, (TRANSPLANT, FOREIGNER))
    second[moved, STATE] = 1
    second[moved, DEFECT] = UNKNOWN
    second[second[:, STATE] == 1, PLACE] = UNKNOWN
    second[second[:, STATE] == 1, EXTENT] = UNKNOWN
    sliver = (second[:, STATE] == 1) & (pixels < LEAST_ANOMALOUS_PIXELS)
    second[np.ix_(sliver, [STATE, DEFECT])] = UNKNOWN
    clear = sliver & (pixels == 0)
    second[clear, STATE] = 0
    second[np.ix_(clear, [DEFECT, PLACE, EXTENT])] = NOTHING
    seen[1::2] = second
    return seen
