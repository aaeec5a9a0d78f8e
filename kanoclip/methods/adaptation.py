"""Test-time adaptation of AnoCLIP: a small adapter fitted to the patches of one image, without labels.

The adapter replaces half of each patch by a mixture of the class's prompts. It is fitted so that patches are called
normal or abnormal with confidence, patches as they are rather normal, and patches with noise abnormal. Every image
starts from the same weights and sees the same noise, so its map depends on nothing but the image.
"""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

NOISE = 0.05 * 1.1  # standard deviation, in features that are not normalised
RESIDUAL = 0.5  # share of the adapter in a patch
HARD_WEIGHT = 0.5  # of the cross-entropies, beside the entropy
SEED = 0


@dataclass(frozen=True)
class Draws:
    """What is random in an adaptation of one image.

    Attributes:
        weight: (M, C) of the adapter before its first step, as `torch.nn.Linear` draws it; M prompts.
        bias: (M,).
        noise: (steps, P, C) added to the patches.
    """

    weight: Tensor
    bias: Tensor
    noise: Tensor

    @classmethod
    def of(cls, prompts: int, patches: int, width: int, steps: int, device: torch.device) -> Self:
        """Draw from a fixed seed, on the CPU, so that every device has the same."""
        generator = torch.Generator().manual_seed(SEED)
        bound = width**-0.5
        weight = torch.rand(prompts, width, generator=generator) * 2 * bound - bound
        bias = torch.rand(prompts, generator=generator) * 2 * bound - bound
        noise = torch.randn(steps, patches, width, generator=generator) * NOISE
        return cls(weight.to(device), bias.to(device), noise.to(device))


def adapted(patches: Tensor, text: Tensor, bank: Tensor, draws: Draws, rate: float, temperature: float) -> Tensor:
    """Fit an adapter to the patches of one image and return them adapted. Works where gradients are switched off.

    Args:
        patches: (P, C), not normalised.
        text: (2, C) unit vectors, normal then abnormal.
        bank: (M, C) unit vectors of all prompts.
        draws: where the adapter starts, and the noise of each step.
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
    """Return patches of which a half is a mixture of prompts: (..., P, C) to the same shape.

    Args:
        patches: (..., P, C), not normalised.
        bank: (M, C) unit vectors.
        weight: (M, C) of the adapter.
        bias: (M,).
    """
    shares = F.linear(F.normalize(patches, dim=-1), weight, bias).tanh()  # (..., P, M)
    return (1 - RESIDUAL) * patches + RESIDUAL * (shares @ bank)


def adaptation_loss(log_odds: Tensor) -> Tensor:
    """Return the entropy of the patches plus half the cross-entropies of "normal" as they are, "abnormal" with noise.

    Args:
        log_odds: (2, P) of abnormal, of the patches as they are and with noise.
    """
    plain, noisy = log_odds
    entropy = F.binary_cross_entropy_with_logits(plain, plain.sigmoid())
    hard = F.softplus(plain) + F.softplus(-noisy)
    return entropy + HARD_WEIGHT * hard.mean()
