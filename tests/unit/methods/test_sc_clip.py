import pytest

from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.methods.sc_clip import ScClip, ScClipOptions


@pytest.mark.parametrize(("layers", "guide"), [(12, 8), (24, 16), (6, 4), (1, 1)])
def test_the_guide_block_is_at_two_thirds_of_the_tower(layers: int, guide: int) -> None:
    tower = TowerShape(layers, (1, 1, 1, layers), vv_start=1, width=8, joint_width=8, grid=(4, 4))
    assert ScClip.reads(ScClipOptions(), tower) == {Tap("calibrated", guide)}
    assert ScClip.reads(ScClipOptions(guide=1), tower) == {Tap("calibrated", 1)}


def test_sc_clip_is_marked_as_an_extension() -> None:
    assert ScClip.marks(ScClipOptions()) == {"extension"}
    assert not ScClip.trainable and not ScClip.stochastic
