"""Interpolate between the weights before and after a training, which is often better than either (WiSE-FT).

A short training at a high learning rate gains on new images and loses on old ones; points on the straight line between
the two states keep most of both (Wortsman et al. 2022). The point is chosen on the validation sets.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # weight of the trained state
DECIDING = ("held_out_composites", "held_out_kinds")
MEASURES = ("image_class_token", "pixel_original", "pixel_local")

Results = Mapping[str, Mapping[str, float]]


def between(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return the parameters at a share of the way from `start` (0) to `end` (1), with the keys of `end`."""
    return {name: torch.lerp(start[name].to(value), value, share) for name, value in end.items()}


def merit(results: Results) -> float:
    """Return the mean of the MEASURES over those DECIDING validation sets that exist, 0..1."""
    values = [results[name][measure] for name in DECIDING if name in results for measure in MEASURES]
    return sum(values) / len(values)


def choose_average(
    module: nn.Module,
    start: Mapping[str, Tensor],
    judge: Callable[[], Results],
    shares: Sequence[float] = SHARES,
) -> dict[float, Results]:
    """Set a trained module to the best weights between its start and its end.

    Args:
        module: holds the trained weights; it is changed in place.
        start: its parameters before the training.
        judge: returns the validation results of the module in its current state.
        shares: the weights of the trained state to try, in ascending order; the first of equal results wins.

    Returns:
        The validation results of each share.
    """
    end = {name: value.clone() for name, value in module.state_dict().items()}
    found: dict[float, Results] = {}
    for share in shares:
        module.load_state_dict(between(start, end, share))
        found[share] = judge()
    best = max(shares, key=lambda share: merit(found[share]))
    module.load_state_dict(between(start, end, best))
    return found
