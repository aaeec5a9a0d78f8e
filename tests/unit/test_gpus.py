"""Parallel jobs use different GPUs, and a killed job releases its GPU."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

JOB = """
import sys, pathlib
from kanoclip.gpus import take_gpu
print(take_gpu(2, pathlib.Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """Start a job that holds its GPU until it is killed; return the job and the number of the GPU."""
    jobs = []

    def job(visible: str = "") -> tuple[subprocess.Popen[str], int]:
        environment = {"CUDA_VISIBLE_DEVICES": visible, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-c", JOB, str(tmp_path)]
        pipe = subprocess.PIPE
        jobs.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))
        assert jobs[-1].stdout is not None
        return jobs[-1], int(jobs[-1].stdout.readline())

    yield job
    for one in jobs:
        one.kill()
        one.wait()


def test_each_job_holds_one_gpu_until_it_ends(start: Callable[..., tuple[subprocess.Popen[str], int]]) -> None:
    (first, of_first), (_, of_second), (_, of_third) = start(), start(), start()
    assert (of_first, of_second, of_third) == (0, 1, 0)  # both GPUs are held, so the third job shares the first
    first.kill()
    first.wait()
    assert start()[1] == 0


def test_a_card_is_recognised_under_other_numbers(
    start: Callable[..., tuple[subprocess.Popen[str], int]],
) -> None:
    assert start("3,5")[1] == 0
    assert start("5,3")[1] == 0  # card 5, which is free
    assert start("3,7")[1] == 1
