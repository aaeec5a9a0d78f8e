"""WinCLIP from pixels and text, by the formulas of docs/methods/winclip.md: one window and one patch at a time."""

import numpy as np
import torch

from kanoclip.backbones.clip import Backbone
from kanoclip.methods.base import Batch
from kanoclip.methods.winclip import WinClip, WinClipOptions

ABNORMAL = "damaged {}", "{} with flaw", "{} with defect", "{} with damage"
ADJECTIVES = "cropped", "close-up", "bright", "dark", "jpeg corrupted", "blurry"
NOUNS = "{}", "small {}", "large {}", "{} for visual inspection", "{} for anomaly detection"
TEMPLATES = [
    *(f"a {adjective} photo of {article} {{}}." for adjective in ADJECTIVES for article in ("a", "the")),
    *(f"a photo of {article} {noun}." for noun in NOUNS for article in ("a", "the")),
]
GRID = 4


def test_forward_equals_the_formulas(
    backbone: Backbone, slow, images: torch.Tensor, batch: Batch, normal_states: list[str]
) -> None:
    found = WinClip(backbone, WinClipOptions(), seed=0)(batch)
    for number, name in enumerate(batch.class_names):
        text = [
            slow.mean_text([template.format(state.format(name)) for template in TEMPLATES for state in states])
            for states in (normal_states, ABNORMAL)
        ]
        tokens = slow.embed(images[number].double().numpy())
        image = score(slow, tokens, text)
        np.testing.assert_allclose(found.image_score[number], image, atol=1e-5)
        expected = np.zeros((GRID, GRID))
        windows = {place: score(slow, tokens[under(*place)], text) for place in places()}
        for row in range(GRID):
            for column in range(GRID):
                scales = [image]
                for side in (2, 3):
                    patch = 1 + row * GRID + column
                    over = [windows[place] for place in places() if place[0] == side and patch in under(*place)]
                    scales.append(len(over) / sum(1 / value for value in over))
                expected[row, column] = 3 / sum(1 / value for value in scales)
        np.testing.assert_allclose(found.map[number], expected, atol=1e-5)
        assert expected.std() > 1e-3  # so that the comparison is not trivial


def places() -> list[tuple[int, int, int]]:
    """Return the side, top and left of each window."""
    return [(side, top, left) for side in (2, 3) for top in range(GRID - side + 1) for left in range(GRID - side + 1)]


def under(side: int, top: int, left: int) -> list[int]:
    """Return the tokens of a window, the class token first."""
    return [0] + [1 + row * GRID + column for row in range(top, top + side) for column in range(left, left + side)]


def score(slow, tokens: np.ndarray, text: list[np.ndarray]) -> float:
    """Return the score of the class token when it attends only to these tokens."""
    after = slow.blocks(tokens)[slow.vision_layers]
    return slow.probability(slow.project(after[0]), *text, 0.07)
