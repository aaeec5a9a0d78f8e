"""environment.yml requires exactly the packages that pyproject.toml requires."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CONDA_NAMES = {"torch": "pytorch", "open_clip_torch": "open-clip-torch", "snakemake": "snakemake-minimal"}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
CONDA = [item for item in ENVIRONMENT["dependencies"] if isinstance(item, str)]
(PIP,) = [item["pip"] for item in ENVIRONMENT["dependencies"] if isinstance(item, dict)]


def bounds(requirements):
    """Return version bounds by package name, e.g. {"h5py": ">=3.10"}."""
    matches = [re.fullmatch(r"([A-Za-z0-9_.-]+)\s*(.*)", requirement) for requirement in requirements]
    return {match[1]: match[2] for match in matches}


def test_conda_packages_are_the_dependencies():
    expected = {CONDA_NAMES.get(name, name): bound for name, bound in bounds(PROJECT["dependencies"]).items()}
    assert bounds(CONDA) == expected | {"python": PROJECT["requires-python"], "pip": ""}


def test_pip_packages_are_the_data_packages():
    assert bounds(PIP) == bounds(PROJECT["optional-dependencies"]["data"])


def test_optional_packages_are_listed_in_comments():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    optional = [line.strip("# -").partition("  #")[0] for line in text.splitlines() if line.startswith("  # - ")]
    extras = PROJECT["optional-dependencies"]
    assert bounds(optional) == bounds([*extras["llm"], *extras["formats"], *extras["export"]])


def test_no_channel_has_terms_of_use():
    assert ENVIRONMENT["channels"] == ["conda-forge", "bioconda", "nodefaults"]
    assert ENVIRONMENT["name"] == PROJECT["name"]
