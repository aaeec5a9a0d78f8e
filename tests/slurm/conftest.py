"""A real Slurm for the test session."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from one_node import one_node


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start Slurm and return the folder with the logs of its daemons."""
    folder = tmp_path_factory.mktemp("slurm")
    with one_node(folder):
        yield folder
