"""Self-attention among equals: values with values (CLIP Surgery), or each of q, k and v with itself (Crane)."""

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
    """Return (softmax(q qᵀ) + softmax(k kᵀ) + softmax(v vᵀ)) v, each divided by sqrt(d) inside (Crane's E-Attn).

    Args:
        q: (B, heads, L, d).
        k: the same shape.
        v: the same shape.

    Returns:
        (B, heads, L, d), a sum and not a mean of the three, as the released code.
    """
    total = F.scaled_dot_product_attention(v, v, v)
    for same in (q, k):
        total = total + F.scaled_dot_product_attention(same, same, v)
    return total
