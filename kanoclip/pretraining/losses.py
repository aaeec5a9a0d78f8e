"""The losses of the image tower, trained against the locked text tower."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kanoclip.losses import dice

TEMPERATURE = 0.07  # divides cosine similarities before they become probabilities
FULL_COVER = 0.25  # share of anomalous pixels from which a patch counts as fully anomalous
POSITIVE_WEIGHT = 3.0  # of anomalous patches, which are rare


def alignment(similarity: Tensor, true: Tensor, known: Tensor, flipped: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return the balanced sigmoid loss: true, false and state-flipped captions have equal total weight.

    Args:
        similarity: (B, T) cosines of images and captions.
        true: (B, T) whether a caption is true of an image.
        known: (B, T) whether that is known.
        flipped: (B, T) captions that differ from the image's own only in the state; they are known and false.
        scale: logit scale.
        bias: logit bias.
    """
    logits = similarity * scale + bias
    positive, negative = known & true, known & ~true
    terms = (
        (F.softplus(-logits), positive),
        (F.softplus(logits), negative & ~flipped),
        (F.softplus(logits), negative & flipped),
    )
    return sum((_mean(loss, chosen) for loss, chosen in terms), start=torch.zeros((), device=similarity.device))


def state_logits(tokens: Tensor, states: Tensor) -> Tensor:
    """Return the log odds of the abnormal state for tokens.

    Args:
        tokens: (B, P, C) unit vectors.
        states: (B, 2, C) unit vectors of the normal and the abnormal prompts of each image.

    Returns:
        (B, P).
    """
    direction = states[:, 1] - states[:, 0]
    return torch.einsum("bpc,bc->bp", tokens, direction) / TEMPERATURE


def image_state(logits: Tensor, abnormal: Tensor, known: Tensor) -> Tensor:
    """Return the binary cross-entropy of class tokens from logits, labels and a mask of usable images, each (B,)."""
    return _mean(F.binary_cross_entropy_with_logits(logits, abnormal, reduction="none"), known)


def ranking(logits: Tensor, anomalous: Tensor) -> Tensor:
    """Return the mean softplus of the normal minus the anomalous image's logit, over pairs of one scene.

    Args:
        logits: (B,) of pairs: even rows are normal, the next row is the same scene with a defect.
        anomalous: (B,) whether the row shows a visible defect; pairs without one are left out.
    """
    return _mean(F.softplus(logits[0::2] - logits[1::2]), anomalous[1::2])


def dense_state(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the binary cross-entropy plus Dice loss of patch tokens.

    Args:
        logits: (B, P) of a square grid.
        masks: (B, S, S), 0 or 1; S is a multiple of the side of the grid.
    """
    grid = int(logits.shape[1] ** 0.5)
    cover = F.avg_pool2d(masks[:, None], masks.shape[-1] // grid).flatten(1)
    target = (cover / FULL_COVER).clamp(max=1)
    weight = torch.tensor(POSITIVE_WEIGHT, device=logits.device)
    probability = logits.sigmoid().unflatten(1, (grid, grid))
    return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight) + dice(
        probability, target.unflatten(1, (grid, grid))
    )


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean over the chosen entries, 0 if there are none."""
    weight = chosen.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1)
