"""The examples of CONTRIBUTING.md: dataset, method, metric, figure; added to a copy of the package, no other edit."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?:yaml|python)\n# (kanoclip/\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))

# One process for all stages: imports take longer than they do.
RUN = """
import sys
from pathlib import Path
import kanoclip
from kanoclip.cli import app
assert Path(kanoclip.__file__).is_relative_to(Path.cwd()), kanoclip.__file__
for command in sys.argv[1:]:
    app(command.split(), standalone_mode=False)
"""
BACKBONE = "--set model=kanoclip-tiny --set weights=random:0 --set image_size=64"
STAGES = [
    "list datasets",
    "list methods",
    "schema --out schema.json",
    "prepare --dataset crockery --path images --out index.csv",
    f"encode --index index.csv --out f.h5 --tap cls/6 --tap vv/6 {BACKBONE}",
    "score --method local_stream --set temperature=0.5 --features f.h5 --index index.csv --dataset crockery --out s",
    "evaluate --scores s/scores.h5 --index index.csv --out metrics.csv",
    "list figures",
    "figure means=means.png --metrics metrics.csv --methods local_stream",
]


def draw_images(folder):
    """Both classes of the example in its layout: grey squares, the anomalous ones with a white spot."""
    generator = np.random.default_rng(0)
    for name in ("cup", "soup_plate"):
        for number in range(6):
            pixels = generator.integers(90, 130, (64, 64, 3), np.uint8)
            defect = "chip" if number % 2 else "good"
            if defect == "chip":
                mask = np.zeros((64, 64), np.uint8)
                mask[20:36, 8 * number : 8 * number + 12] = 255
                pixels[mask > 0] = 255
                save(mask, folder / name / "ground_truth" / defect / f"{number:03}_mask.png")
            save(pixels, folder / name / "test" / defect / f"{number:03}.png")


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A folder with a copy of the package, the examples added to it, and what it made of the new dataset."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "kanoclip", folder / "kanoclip", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for place, content in EXAMPLES.items():
        path = folder / place
        before = path.read_text(encoding="utf-8") + "\n\n" if path.exists() else ""
        path.write_text(before + content, encoding="utf-8")
    draw_images(folder / "images")
    done = subprocess.run([sys.executable, "-c", RUN, *STAGES], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (folder / "listed").write_text(done.stdout)
    return folder


def test_the_page_has_one_file_for_each():
    parents = sorted(str(Path(place).parent) for place in EXAMPLES)
    assert parents == ["kanoclip/datasets/specs", "kanoclip/methods", "kanoclip/metrics", "kanoclip/report/figures"]


def test_the_registries_list_them(extended):
    assert {"crockery", "local_stream", "means"} <= set((extended / "listed").read_text().split())
    definitions = json.loads((extended / "schema.json").read_text())["$defs"]
    assert "temperature" in definitions["method_local_stream"]["properties"]


def test_the_dataset_gets_its_index_with_readable_names(extended):
    index = pd.read_csv(extended / "index.csv")
    assert set(index["class_name"]) == {"cup", "soup plate"}
    assert len(index) == 12 and index["label"].sum() == 6


def test_the_metric_of_the_methods_scores_is_right(extended):
    metrics = pd.read_csv(extended / "metrics.csv")
    assert set(metrics["method"]) == {"local_stream"}
    index = pd.read_csv(extended / "index.csv")
    with h5py.File(extended / "s" / "scores.h5") as scores:
        image_scores = scores["image_score"][:]
    for name, rows in index.groupby("class_name"):
        labels, values = rows["label"], image_scores[rows.index]
        rates, recalls, _ = roc_curve(labels, values, drop_intermediate=False)
        of_class = metrics[(metrics["class_name"] == name) & (metrics["level"] == "image")].set_index("metric")["value"]
        assert of_class["fpr95"] == pytest.approx(rates[recalls >= 0.95][0])
        assert of_class["auroc"] == pytest.approx(roc_auc_score(labels, values))
    assert metrics[(metrics["level"] == "pixel") & (metrics["metric"] == "fpr95")]["value"].between(0, 1).all()


def test_the_figure_is_drawn_in_every_format(extended):
    assert all((extended / f"means{suffix}").stat().st_size > 1000 for suffix in (".png", ".pdf"))
    assert {"local_stream", "image AUROC (%)"} <= set(
        re.findall("<!-- (.*?) -->", (extended / "means.svg").read_text())
    )
