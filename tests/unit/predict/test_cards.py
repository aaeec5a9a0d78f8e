"""Cards of other models, and files that are not cards, are refused in one line."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from kanoclip.backbones.clip import Backbone
from kanoclip.methods import method_class
from kanoclip.predict import Detector
from kanoclip.predict.cards import use_card, write_card
from kanoclip.types import InputError


@pytest.fixture
def card(detector: Detector, tmp_path: Path) -> Path:
    """Return the card of the detector, calibrated on noise."""
    detector.calibrate([np.random.default_rng(seed).random((8, 8)) for seed in range(4)], 0.2)
    write_card(tmp_path / "card.json", detector, date(2026, 1, 1))
    return tmp_path / "card.json"


@pytest.mark.parametrize("value", ["0.5", None, [1], True, float("nan")])
@pytest.mark.parametrize("key", ["image", "low"])
def test_a_threshold_that_is_not_a_number_is_refused(detector: Detector, card: Path, key: str, value: object) -> None:
    card.write_text(json.dumps(json.loads(card.read_text()) | {key: value}))
    with pytest.raises(InputError, match=rf"card\.json: {key}: expected a number, found .*; calibrate again"):
        use_card(card, detector)


def test_a_card_of_other_options_says_that_they_differ(detector: Detector, backbone: Backbone, card: Path) -> None:
    kind = method_class("clip")
    other = Detector(kind(backbone, kind.Options(temperature=0.5), 0), "clip", "nut")
    with pytest.raises(InputError, match="the card is of the same model with other options or weights; it says"):
        use_card(card, other)
