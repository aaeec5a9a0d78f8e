"""Variants of Norm (equation 9) and of the image score (equation 12), by the value of their option."""

from collections.abc import Callable

from torch import Tensor

TINY = 1e-12


def _min_max(similarity: Tensor, temperature: float) -> Tensor:
    total = similarity.sum(0)  # (B, P, 2)
    low, high = total.amin(1, keepdim=True), total.amax(1, keepdim=True)  # (B, 1, 2)
    return (total - low) / (high - low).clamp(min=TINY)


# (K, B, P, 2) similarities of K stages, temperature -> (B, P, 2): M_n and M_a in 0..1
NORMS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "mean_probability": lambda similarity, temperature: (similarity / temperature).softmax(-1).mean(0),
    "softmax_of_mean": lambda similarity, temperature: (similarity.mean(0) / temperature).softmax(-1),
    "min_max": _min_max,
}

# (B, 2) global probability, (B, 2) of the map: 1 - max M and max M -> (B, 2), which sums to 1
SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda probability, peak: (probability + peak) / 2,
    "probability": lambda probability, peak: probability,
    "max": lambda probability, peak: peak,
}
