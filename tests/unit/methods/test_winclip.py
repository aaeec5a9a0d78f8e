import pytest
import torch
from pydantic import ValidationError
from scipy.stats import hmean

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.methods.base import Batch
from kanoclip.methods.winclip import WinClip, WinClipOptions, harmonic_mean, over_patches


def test_a_patch_gets_the_harmonic_mean_of_its_windows() -> None:
    """Of the 2 x 2 windows on 3 x 3 patches, one covers a corner, two an edge, and all four the middle."""
    found = over_patches(torch.tensor([[1.0, 0.75, 0.5, 0.25]]), (3, 3), 2)[0]
    assert found[0, 0] == 1
    assert found[0, 1].item() == pytest.approx(hmean([1.0, 0.75]))
    assert found[2, 1].item() == pytest.approx(hmean([0.5, 0.25]))
    assert found[1, 1].item() == pytest.approx(hmean([1.0, 0.75, 0.5, 0.25]))


@pytest.mark.parametrize(("grid", "side"), [((4, 6), 2), ((7, 5), 3), ((3, 4), 1), ((3, 3), 3)])
def test_patch_scores_equal_loops_on_any_grid(grid: tuple[int, int], side: int) -> None:
    rows, columns = grid[0] - side + 1, grid[1] - side + 1
    scores = torch.rand(2, rows * columns, generator=torch.Generator().manual_seed(0)) + 0.01
    found = over_patches(scores, grid, side)
    for image in range(2):
        for row in range(grid[0]):
            for column in range(grid[1]):
                over = [
                    scores[image, top * columns + left].item()
                    for top in range(rows)
                    for left in range(columns)
                    if top <= row < top + side and left <= column < left + side
                ]
                assert found[image, row, column].item() == pytest.approx(hmean(over), abs=1e-6)


def test_equal_scores_are_kept_and_a_score_of_zero_dominates() -> None:
    """The harmonic mean is dominated by small values, so one window with score 0 makes its patches normal."""
    torch.testing.assert_close(over_patches(torch.full((1, 9), 0.3), (4, 4), 2), torch.full((1, 4, 4), 0.3))
    scores = torch.full((1, 9), 0.9)
    scores[0, 4] = 0  # the window in the middle
    found = over_patches(scores, (4, 4), 2)[0]
    assert (found[1:3, 1:3] == 0).all() and (found[0] > 0.89).all()
    torch.testing.assert_close(harmonic_mean(torch.tensor([[0.5, 0.5], [1.0, 0.0]])), torch.tensor([2 / 3, 0.0]))


def test_the_image_is_one_of_the_scales(backbone: Backbone) -> None:
    """If all windows have the score of the image, so does every patch."""
    method = WinClip(backbone, WinClipOptions(), seed=0)
    cls = torch.randn(2, backbone.width, generator=torch.Generator().manual_seed(0))
    image = backbone.project(cls)  # (2, C)
    features = {Tap("windows", side): image[:, None].expand(-1, (5 - side) ** 2, -1) for side in (2, 3)}
    output = method(Batch(["a", "b"], ["nut", "bolt"], {Tap("cls", backbone.layers): cls, **features}))
    torch.testing.assert_close(output.map, output.image_score[:, None, None].expand(-1, 4, 4))


def test_it_learns_nothing_and_checks_its_windows(backbone: Backbone) -> None:
    assert not WinClip(backbone, WinClipOptions(), seed=0).learned()
    assert WinClipOptions(windows=[1, 4]).windows == (1, 4)
    for wrong in ([], [0]):
        with pytest.raises(ValidationError):
            WinClipOptions(windows=wrong)
