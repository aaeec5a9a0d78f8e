"""Numbers of a tower that methods need before it is built."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TowerShape:
    """The shape of CLIP's image tower at the configured image size.

    Attributes:
        layers: number of blocks.
        taps: the four stages, blocks counted from 1.
        vv_start: first block of the local streams, counted from 1.
        width: W of the residual stream.
        joint_width: C of the space shared with text.
        grid: (h, w) patches of an image.
    """

    layers: int
    taps: tuple[int, ...]
    vv_start: int
    width: int
    joint_width: int
    grid: tuple[int, int]

    @property
    def patches(self) -> int:
        """P = h w."""
        return self.grid[0] * self.grid[1]
