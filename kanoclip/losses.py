"""Losses on probability maps, shared by the methods that train."""

import torch
from torch import Tensor

# keeps logarithms finite, but is small enough that a confident mistake still has a gradient: with 1e-6, training got
# stuck at saturated maps with missed defects
EPSILON = 1e-12
SMOOTH = 1.0  # keeps the Dice loss defined on normal images


def focal(probability: Tensor, target: Tensor, gamma: float = 2.0, smoothing: float = 0.0) -> Tensor:
    """Return the binary focal loss without class weights (Lin et al. 2017), averaged over pixels.

    Args:
        probability: (B, H, W) in 0..1, of the positive class.
        target: (B, H, W) 0 or 1.
        gamma: focusing parameter, which down-weights well-classified pixels.
        smoothing: s, which replaces the true class's probability p by (1 - s) p + s (1 - p) + s, as in APRIL-GAN's
            code and code derived from it, with 1e-5.
    """
    true = torch.where(target > 0.5, probability, 1 - probability)
    true = ((1 - 2 * smoothing) * true + 2 * smoothing).clamp(min=EPSILON)
    return (-((1 - true) ** gamma) * true.log()).mean()


def dice(probability: Tensor, target: Tensor) -> Tensor:
    """Return the Dice loss 1 - (2 |P T| + 1) / (|P| + |T| + 1), averaged over images.

    Args:
        probability: (B, H, W) in 0..1.
        target: (B, H, W) 0 or 1; may be empty.
    """
    overlap = (probability * target).sum((1, 2))
    size = probability.sum((1, 2)) + target.sum((1, 2))
    return (1 - (2 * overlap + SMOOTH) / (size + SMOOTH)).mean()


def cross_entropy(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of probabilities given for both classes, averaged over images.

    With both given, the probability of the label is exact however small it is; 1 - p is 0 for all p above 1 - 6e-8.

    Args:
        probabilities: (B, 2) in 0..1, normal then abnormal.
        labels: (B,) 0 or 1.
    """
    return -probabilities.gather(1, labels[:, None].long()).clamp(min=EPSILON).log().mean()


def knowledge_hinge(knowledge: Tensor, normal: Tensor, abnormal: Tensor, margin: float = 0.0) -> Tensor:
    """Return a hinge loss that pulls abnormal prompts to the knowledge and pushes normal ones away (equation 2).

    Args:
        knowledge: (K, C) unit vectors, one per class or image.
        normal: (K, C) unit vectors of the normal prompts.
        abnormal: (K, C) unit vectors of the abnormal prompts.
        margin: 0 as printed.

    Returns:
        (K,) max(0, |k - a| - |k - n| + margin).
    """
    return (distance(knowledge, abnormal) - distance(knowledge, normal) + margin).clamp(min=0)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Return (K,) Euclidean distances of (K, C) vectors, with a finite gradient at 0."""
    return ((a - b).square().sum(-1) + EPSILON).sqrt()
