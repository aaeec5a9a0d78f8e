"""Calibration cards: saved thresholds, which are valid only for the model that they were made with."""

import json
import math
from dataclasses import asdict, fields
from datetime import date
from pathlib import Path

from kanoclip import __version__
from kanoclip.files import write_json
from kanoclip.naming import printable
from kanoclip.predict.decisions import Calibration
from kanoclip.predict.detector import Detector
from kanoclip.types import InputError

FORMAT = 1


def write_card(path: Path, detector: Detector, today: date) -> None:
    """Write the calibration of a detector together with everything that it depends on.

    Raises:
        InputError: the detector is not calibrated.
    """
    if detector.calibration is None:
        raise InputError(f"{path}: the detector is not calibrated; call calibrate first")
    write_json(
        path,
        {
            "format": FORMAT,
            "model": detector.description,
            "class_name": detector.class_name,
            "checksum": detector.checksum(),
            "date": today.isoformat(),
            "version": __version__,
            "says": detector.calibration.words,
            **asdict(detector.calibration),
        },
    )


def use_card(path: Path, detector: Detector) -> Detector:
    """Set the threshold of a detector from a card, and return the detector.

    Raises:
        InputError: the file is not a card, or belongs to another model or class name.
    """
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        calibration = Calibration(**{field.name: card[field.name] for field in fields(Calibration)})
        checksum, model, class_name = card["checksum"], card["model"], card["class_name"]
    except OSError as error:
        raise InputError(f"{path}: expected a card of kanoclip calibrate, found none ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected a card of kanoclip calibrate, found another kind of file") from error
    for name, value in asdict(calibration).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{path}: {name}: expected a number, found {printable(repr(value), 60)}; calibrate again")
    if checksum != detector.checksum():
        differs = printable(str(model))
        if class_name != detector.class_name:
            differs = f"images of '{printable(str(class_name))}'"
        elif model == detector.description:
            differs = "the same model with other options or weights"
        raise InputError(
            f"{path}: the card is of {differs}; it says nothing about {detector.description}: calibrate again"
        )
    detector.calibration = calibration
    detector.threshold = calibration.threshold
    return detector
