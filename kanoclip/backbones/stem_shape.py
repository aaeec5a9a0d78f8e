"""The shape of the stem of kanoclip-tiny and the cost of running it, without torch; see `kanoclip.backbones.stem`."""

STAGES = (  # channels, blocks, kernel, stride, expansion
    (16, 1, 3, 1, 1),
    (24, 2, 3, 2, 6),
    (40, 2, 5, 2, 6),
    (80, 3, 3, 2, 6),
    (112, 3, 5, 1, 6),
)
READ = {1: (24, 4), 4: (40, 8), 10: (112, 16)}  # blocks, from 0, whose output is read: channels, stride
FIRST = 32  # channels of the first convolution, whose kernel is 3 and whose stride is 2
HIDDEN = 256  # width between the two layers that embed the features
WITH_STEM = frozenset({"kanoclip-tiny"})  # models


def widened(kernel: int, stride: int) -> int:
    """Return the side of the kernel that pads all sides equally; see `kanoclip.backbones.stem.convolution`."""
    return kernel + stride - 1


def cells(patch: int, stride: int) -> int:
    """Return the cells of a stride along a side of a patch, at least 1."""
    return max(1, patch // stride)


def feature_channels(patch: int) -> int:
    """Return the number of features of a patch.

    >>> feature_channels(8)
    248
    """
    return sum(count * cells(patch, stride) ** 2 for count, stride in READ.values())


def stem_operations(side: int, patch: int, width: int) -> int:
    """Return the operations of the stem per image, without those of the patch embedding.

    Args:
        side: pixels per side of the image.
        patch: pixels per side of a patch.
        width: width of the tower.
    """
    side //= 2
    total, channels = 3 * FIRST * widened(3, 2) ** 2 * side**2, FIRST
    for out, count, kernel, first, expansion in STAGES:
        for stride in (first, *[1] * (count - 1)):
            inner = channels * expansion
            total += (expansion > 1) * channels * inner * side**2
            side //= stride
            total += (widened(kernel, stride) ** 2 + out) * inner * side**2
            channels = out
    patches = (side * 16 // patch) ** 2
    return 2 * (total + patches * HIDDEN * (feature_channels(patch) + width))
