"""Measure decisions on real images: F1 and false alarms at a guessed, at calibrated and at the best threshold.

    python benchmarks/decisions.py FOLDER... [--model kanoclip] [--out decisions.md]

FOLDER is a class in MVTec-AD layout: test/good and test/<defect>. Its name, with spaces for underscores, is the class
name. Normal images for calibration are drawn at random many times and left out of the evaluation of their draw.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import kanoclip
from kanoclip.predict.decisions import calibrated
from kanoclip.predict.find import ImageFiles

DRAWS = 200
KINDS = ((10, 0.1), (50, 0.1), (50, 0.02))  # normal images, target false-alarm rate

Outcome = tuple[float, float]
"""F1 and the share of normal images called anomalous, both from 0 to 1."""


def outcome(scores: NDArray[np.float32], labels: NDArray[np.bool_], threshold: float) -> Outcome:
    called = scores >= threshold
    true = int((called & labels).sum())
    return 2 * true / max(1, int(called.sum() + labels.sum())), float(called[~labels].mean())


def best(scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> Outcome:
    return max(outcome(scores, labels, threshold) for threshold in np.unique(scores))


def after_calibration(
    scores: NDArray[np.float32], labels: NDArray[np.bool_], count: int, rate: float, generator: np.random.Generator
) -> Outcome | None:
    normals = np.flatnonzero(~labels)
    if count + 5 > len(normals):  # too few images would be left for the evaluation
        return None
    found = []
    for _ in range(DRAWS):
        chosen = generator.choice(normals, count, replace=False)
        rest = np.setdiff1d(np.arange(len(scores)), chosen)
        threshold = calibrated(scores[chosen], scores[chosen], rate).image
        found.append(outcome(scores[rest], labels[rest], threshold))
    f1, alarms = np.mean(found, axis=0)
    return float(f1), float(alarms)


def row(folder: Path, model: str) -> list[str]:
    name = folder.name.replace("_", " ")
    detector = kanoclip.load(model, class_name=name, threads=1)
    files = list(ImageFiles([folder / "test"]))
    labels = np.array([not file.name.startswith("good/") for file in files])
    scores = detector.scores(file.path for file in files)
    cells = [name, f"{(~labels).sum()} / {labels.sum()}"]
    guess = detector.threshold.image
    cells.append("" if guess is None else f"{100 * (scores[labels] >= guess).mean():.0f}")
    found = [None if guess is None else outcome(scores, labels, guess)]
    generator = np.random.default_rng(0)
    found += [after_calibration(scores, labels, count, rate, generator) for count, rate in KINDS]
    found.append(best(scores, labels))
    of_all = outcome(scores, labels, -np.inf)[0]
    return [
        *cells[:2],
        f"{100 * of_all:.0f}",
        cells[2],
        *("" if one is None else f"{100 * one[0]:.0f} / {100 * one[1]:.0f}" for one in found),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--model", default="kanoclip")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    calibrations = [f"{count} normals, {100 * rate:g} %" for count, rate in KINDS]
    header = ["images of", "normal / anomalous", "F1 of all anomalous", "guess finds", "guess", *calibrations, "oracle"]
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header))]
    for folder in arguments.folders:
        lines.append("| " + " | ".join(row(folder, arguments.model)) + " |")
        print(lines[-1], flush=True)
    text = "\n".join(["F1 / false alarms in percent.", "", *lines]) + "\n"
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
