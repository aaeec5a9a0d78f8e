"""The cost of taps, from a tower's shape alone and without torch: values to store and operations to compute.

A multiplication with addition counts as two operations. Normalisations, activations, softmax and the projection of the
class token are left out: together they are below 1 % for ViT-L/14 at 518 pixels.
"""

from collections.abc import Collection

from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.stem_shape import stem_operations

MLP = 4  # ratio of an MLP's hidden width to the token width, as in OpenAI's models
STREAMS = {"vv": 1, "qkv": 3}  # attentions per block of a local stream


def tap_values(tap: str, shape: TowerShape) -> int | None:
    """Return the number of values of a tap per image; None for an unknown kind or a second tower.

    >>> large = TowerShape(24, (6, 12, 18, 24), 6, 1024, 768, (37, 37))
    >>> tap_values("tokens/6", large), tap_values("cls/24", large), tap_values("windows/2", large)
    (1402880, 1024, 995328)

    Args:
        tap: as `Tap` is written: KIND/BLOCK.
        shape: shape of CLIP's image tower.
    """
    kind, _, at = tap.partition("/")
    if kind in ("tokens", "calibrated", *STREAMS):
        return (1 + shape.patches) * shape.width
    if kind == "cls":
        return shape.width
    if kind == "windows":
        return _windows(shape, int(at)) * shape.joint_width
    if kind == "views":
        return int(at) * shape.joint_width
    return 3 * int(at) ** 2 if kind == "pixels" else None


def tower_operations(taps: Collection[str], shape: TowerShape, patch: int) -> float:
    """Return the operations per image for some taps, computed in one run of the blocks.

    With L = 1 + P tokens of width W, a block takes 2 L W² (3 + 1 + 2 MLP) + 4 L² W: the projections of its attention,
    its MLP, its scores and their sums. A block of a local stream computes q, k and v again and projects what its
    attentions return: 2 L W² (3 + 1) + 4 L² W for each attention. Windows run through all blocks by themselves, after
    an embedding of their own, as does each view. So do calibrated tokens; they compute the attention of the last
    block twice more and five products of P x P weights, and sum the neighbours of every patch.

    Args:
        taps: as `Tap` is written: KIND/BLOCK; other towers than CLIP's are left out.
        shape: shape of CLIP's image tower.
        patch: pixels per side of a patch.
    """
    wanted = [(kind, int(at)) for kind, _, at in (tap.partition("/") for tap in taps)]
    embedding = 2.0 * shape.patches * shape.width * 3 * patch**2
    if shape.stem:
        embedding += stem_operations(shape.grid[0] * patch, patch, shape.width)
    total = 0.0
    blocks = [at for kind, at in wanted if kind in ("tokens", "cls", *STREAMS)]
    if blocks:
        total += embedding + max(blocks) * _block(1 + shape.patches, shape.width)
    for stream, attentions in STREAMS.items():
        last = max((at for kind, at in wanted if kind == stream), default=0)
        depth = max(0, last - shape.vv_start + 1)
        total += depth * _attention(1 + shape.patches, shape.width, attentions)
    for side in {at for kind, at in wanted if kind == "windows"}:
        count = _windows(shape, side)
        through = shape.layers * _block(1 + side**2, shape.width) + 2 * shape.width * shape.joint_width
        total += embedding + count * through
    for _ in {at for kind, at in wanted if kind == "calibrated"}:
        through = shape.layers * _block(1 + shape.patches, shape.width)
        again = 2 * _attention(1 + shape.patches, shape.width, 1)
        weights = 5 * 2 * shape.patches**2 * shape.width + 2 * 9 * shape.patches * (shape.width + 1)
        total += embedding + through + again + weights
    for views in {at for kind, at in wanted if kind == "views"}:
        through = shape.layers * _block(1 + shape.patches, shape.width) + 2 * shape.width * shape.joint_width
        total += views * (embedding + through)
    return total


def _windows(shape: TowerShape, side: int) -> int:
    return (shape.grid[0] - side + 1) * (shape.grid[1] - side + 1)


def _block(length: int, width: int) -> float:
    return _attention(length, width, 1) + 2 * length * width**2 * 2 * MLP


def _attention(length: int, width: int, attentions: int) -> float:
    return 2 * length * width**2 * (3 + 1) + attentions * 4 * length**2 * width
