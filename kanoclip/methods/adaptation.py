"""Test-time adaptation of AnoCLIP: a small adapter fitted to the patches of one image without labels.

The adapter replaces half of each patch feature by a mixture of the class's prompt features. Its loss favours confident
predictions, "normal" for the original patches and "abnormal" for patches with added noise. Every image starts from the
same weights and noise, so its map depends only on the image.
"""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

NOISE = 0.05 * 1.1  # standard deviation, for unnormalised features
RESIDUAL = 0.5  # share of the adapter's output in a patch feature
HARD_WEIGHT = 0.5  # weight of the cross-entropies, relative to the entropy
SEED = 0


@dataclass(frozen=True)
class Draws:
    """The random numbers of the adaptation to one image.

    Attributes:
        weight: (M, C), initial weight of the adapter, distributed as in `torch.nn.Linear`; M prompts.
        bias: (M,).
        noise: (steps, P, C) added to the patches.
    """

    weight: Tensor
    bias: Tensor
    noise: Tensor

    @classmethod
    def of(cls, prompts: int, patches: int, width: int, steps: int, device: torch.device) -> Self:
        """Draw from a fixed seed on the CPU, so that the numbers are equal on every device."""
        generator = torch.Generator().manual_seed(SEED)
        bound = width**-0.5
        weight = torch.rand(prompts, width, generator=generator) * 2 * bound - bound
        bias = torch.rand(prompts, generator=generator) * 2 * bound - bound
        noise = torch.randn(steps, patches, width, generator=generator) * NOISE
        return cls(weight.to(device), bias.to(device), noise.to(device))


def adapted(patches: Tensor, text: Tensor, bank: Tensor, draws: Draws, rate: float, temperature: float) -> Tensor:
    """Fit an adapter to the patches of one image and return the adapted patches. Works within `torch.no_grad`.

    Args:
        patches: (P, C), not normalised.
        text: (2, C) unit vectors, normal then abnormal.
        bank: (M, C) unit vectors of all prompts.
        draws: the initial weights, and the noise of each step.
        rate: learning rate of AdamW.
        temperature: divides the cosine similarities.

    Returns:
        (P, C), not normalised.
    """
    with torch.inference_mode(False), torch.enable_grad():
        patches, text, bank = (tensor.detach().clone() for tensor in (patches, text, bank))
        weight, bias = (start.clone().requires_grad_() for start in (draws.weight, draws.bias))
        optimizer = torch.optim.AdamW([weight, bias], rate)
        for noise in draws.noise:
            optimizer.zero_grad()
            both = torch.stack([patches, patches + noise])  # (2, P, C)
            vectors = F.normalize(mixed(both, bank, weight, bias), dim=-1)
            adaptation_loss(vectors @ (text[1] - text[0]) / temperature).backward()
            optimizer.step()
        return mixed(patches, bank, weight, bias).detach()


def mixed(patches: Tensor, bank: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Replace half of each patch feature by a mixture of prompt features: (..., P, C) to the same shape.

    Args:
        patches: (..., P, C), not normalised.
        bank: (M, C) unit vectors.
        weight: (M, C) of the adapter.
        bias: (M,).
    """
    shares = F.linear(F.normalize(patches, dim=-1), weight, bias).tanh()  # (..., P, M)
    return (1 - RESIDUAL) * patches + RESIDUAL * (shares @ bank)


def adaptation_loss(log_odds: Tensor) -> Tensor:
    """Return the entropy plus half the cross-entropies with "normal" (original) and "abnormal" (noisy) as labels.

    Args:
        log_odds: (2, P) log-odds of abnormal for the original and the noisy patches.
    """
    plain, noisy = log_odds
    entropy = F.binary_cross_entropy_with_logits(plain, plain.sigmoid())
    hard = F.softplus(plain) + F.softplus(-noisy)
    return entropy + HARD_WEIGHT * hard.mean()
