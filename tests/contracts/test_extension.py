"""The examples of CONTRIBUTING.md work as they stand, in a copy of the package and in a copy of the project."""

import json
import os
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
BLOCK = re.compile(r"^```(?:yaml|python)\n# ((?:kanoclip|tests)/\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))

# One process for all stages, because the imports take longer than the stages.
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
    f"encode --index index.csv --out f.h5 --tap cls/4 --tap vv/4 {BACKBONE}",
    "score --method local_stream --set temperature=0.5 --features f.h5 --index index.csv --dataset crockery --out s",
    "evaluate s --index index.csv",
    "list figures",
    "figure means=means.png --metrics s/metrics.csv --methods local_stream",
]


def draw_images(folder):
    """Draw both classes of the example in its layout: grey squares, the anomalous ones with a white spot."""
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


def follow_the_page(folder):
    """Write each example to its file, or append it to a file that exists and does not contain it yet."""
    for place, example in EXAMPLES.items():
        path = folder / place
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if example not in before:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{before}\n\n{example}" if before else example, encoding="utf-8")


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """Return a folder with a copy of the package, the examples added to it, and its output for the new dataset."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "kanoclip", folder / "kanoclip", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    follow_the_page(folder)
    draw_images(folder / "images")
    done = subprocess.run([sys.executable, "-c", RUN, *STAGES], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (folder / "listed").write_text(done.stdout)
    return folder


def test_the_page_has_an_example_of_each_extension():
    assert set(EXAMPLES) == {
        "kanoclip/datasets/specs/crockery.yaml",
        "kanoclip/datasets/class_names.yaml",
        "kanoclip/knowledge/curated/crockery.yaml",
        "tests/unit/datasets/layout_writers.py",
        "kanoclip/methods/local_stream.py",
        "kanoclip/metrics/classification.py",
        "kanoclip/report/figures/means.py",
    }


def test_the_registries_list_the_new_dataset_method_and_figure(extended):
    assert {"crockery", "local_stream", "means"} <= set((extended / "listed").read_text().split())
    definitions = json.loads((extended / "schema.json").read_text())["$defs"]
    assert "temperature" in definitions["method_local_stream"]["properties"]


def test_the_dataset_gets_its_index_with_readable_names(extended):
    index = pd.read_csv(extended / "index.csv")
    assert set(index["class_name"]) == {"cup", "soup plate"}
    assert len(index) == 12 and index["label"].sum() == 6


def test_the_new_metric_is_right_for_the_new_methods_scores(extended):
    metrics = pd.read_csv(extended / "s/metrics.csv")
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


PROJECT = ["kanoclip", "tests", "config", "workflow", "docs", "results/README.md", "benchmarks", "profiles", "tools"]
PROJECT += [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "Makefile",
    "Snakefile",
    "Dockerfile",
    "environment.yml",
]
PROJECT += ["pyproject.toml", ".importlinter"]
RELATED = ["contracts", "unit/datasets", "unit/knowledge", "unit/metrics", "unit/report"]
RELATED += ["unit/test_config.py", "unit/test_overview.py", "unit/test_cli.py"]


@pytest.mark.slow
def test_the_project_passes_its_checks_with_the_examples(tmp_path):
    """Follow the page to the letter: the examples, `make generated`, then the tests and checks that concern them."""
    for name in PROJECT:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    follow_the_page(tmp_path)
    recipe = (ROOT / "Makefile").read_text().split("\ngenerated:")[1].split("\n\n")[0].splitlines()[1:]
    assert recipe and all(line.startswith("\tkanoclip ") for line in recipe)
    checks = [line.split() for line in recipe]
    checks += [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["python", "tools/words.py"]]
    checks += [["pytest", "-q", "-n", "2", *(f"tests/{name}" for name in RELATED)]]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}  # import the copy, not the installed package
    for program, *arguments in checks:
        module = [] if program == "python" else ["-m", program]
        command = [sys.executable, *module, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
