"""Alternative attention functions: values attend to values, or patches to similar patches."""

import torch
import torch.nn.functional as F
from torch import Tensor


def value_value(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(v vᵀ / sqrt(d)) v: values serve as queries and keys too (KAnoCLIP, equation 4).

    Args:
        q: (B, heads, L, d), not used.
        k: the same shape, not used.
        v: the same shape.

    Returns:
        (B, heads, L, d).
    """
    return F.scaled_dot_product_attention(v, v, v)


def self_self(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return (softmax(q qᵀ) + softmax(k kᵀ) + softmax(v vᵀ)) v, each divided by sqrt(d) inside (Crane's E-attention).

    Args:
        q: (B, heads, L, d).
        k: the same shape.
        v: the same shape.

    Returns:
        (B, heads, L, d), the sum of the three, not their mean, as in the released code.
    """
    total = F.scaled_dot_product_attention(v, v, v)
    for same in (q, k):
        total = total + F.scaled_dot_product_attention(same, same, v)
    return total


def query_key(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q kᵀ / sqrt(d)) v, the standard attention. Shapes as in `value_value`."""
    return F.scaled_dot_product_attention(q, k, v)


def similarity_weights(features: Tensor, sharpness: float, offset: float) -> Tensor:
    """Return attention weights from the similarity of patches (ProxyCLIP, Crane's D-attention, SC-CLIP).

    A patch attends to itself and to patches whose similarity exceeds `offset` times the image's mean similarity, with
    softmax(sharpness (s - offset mean(s))); other patches are masked.

    Args:
        features: (B, P, C) unit vectors of the patches.
        sharpness: multiplies the similarities.
        offset: multiplies the mean over all pairs of patches of the same image.

    Returns:
        (B, P, P), rows sum to 1.
    """
    similarity = features @ features.transpose(1, 2)  # (B, P, P)
    logits = sharpness * (similarity - offset * similarity.mean((1, 2), keepdim=True))
    own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    return logits.masked_fill((logits < 0) & ~own, float("-inf")).softmax(-1)


def mix(weights: Tensor, v: Tensor) -> Tensor:
    """Apply the same weights in every head: (B, P, P) and values (B, heads, P, d) to (B, heads, P, d)."""
    joined = v.transpose(1, 2).flatten(2)  # (B, P, heads d): one product instead of one per head
    return (weights.to(v.dtype) @ joined).unflatten(2, (v.shape[1], -1)).transpose(1, 2)
