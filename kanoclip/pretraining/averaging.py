"""Weights between the start of a training and its end: often better than both, on old images and on new ones.

A short training at a high learning rate learns new images and forgets old ones; the straight line between its ends
keeps most of both (WiSE-FT, Wortsman et al. 2022). The place on the line is chosen on the validation sets.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the end
DECIDING = ("held_out_composites", "held_out_kinds")
MEASURES = ("image_class_token", "pixel_original", "pixel_local")

Results = Mapping[str, Mapping[str, float]]


def between(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Parameters on the line from `start` (share 0) to `end` (share 1); the keys are those of `end`."""
    return {name: torch.lerp(start[name].to(value), value, share) for name, value in end.items()}


def merit(results: Results) -> float:
    """What decides: the mean over the deciding sets that there are of their deciding measures, 0..1."""
    values = [results[name][measure] for name in DECIDING if name in results for measure in MEASURES]
    return sum(values) / len(values)


def choose_average(
    module: nn.Module,
    start: Mapping[str, Tensor],
    judge: Callable[[], Results],
    shares: Sequence[float] = SHARES,
) -> dict[float, Results]:
    """Give a trained module the best weights between its start and its end.

    Args:
        module: holds the end; it is changed in place.
        start: its parameters before the training.
        judge: validates the module as it is.
        shares: places on the line that are tried, in rising order; of equals the first is taken.

    Returns:
        What each share reaches.
    """
    end = {name: value.clone() for name, value in module.state_dict().items()}
    found: dict[float, Results] = {}
    for share in shares:
        module.load_state_dict(between(start, end, share))
        found[share] = judge()
    best = max(shares, key=lambda share: merit(found[share]))
    module.load_state_dict(between(start, end, best))
    return found
