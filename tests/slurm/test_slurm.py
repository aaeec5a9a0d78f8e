"""Run the workflow on a real Slurm, also when jobs, Snakemake or Slurm itself fail (`make test-slurm`)."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from one_node import wait_for

from kanoclip.files import sha256

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[2]
NEEDED = ("Snakefile", "environment.yml", "workflow", "profiles", "kanoclip", "config")
CONFIG = {
    "run": "tiny",
    "backbones": {"kanoclip-tiny-32": {"model": "kanoclip-tiny", "weights": "random:0", "image_size": 32}},
    "backbone": "kanoclip-tiny-32",
    "auxiliary": "parts",
    "auxiliary_for": {},
    "targets": ["others"],
    "seeds": [1],
    "methods": {"clip": None, "april_gan": {"epochs": 1}},
    "datasets": {name: {"path": name} for name in ("parts", "others")},
}
# there is no accounting, and the loopback interface is fast
HERE = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "5"]
METRICS = "results/tiny/tables/metrics.csv"


def environment(folder: Path) -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1"}


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start the workflow on Slurm, in a process group of its own."""
    log = (folder / "snakemake.log").open("a")
    snakemake = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", *HERE]
    whole = [*snakemake, *options, "--configfile", "tiny.yaml"]
    return subprocess.Popen(
        whole,
        cwd=folder,
        env=environment(folder),
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def finish(folder: Path, *options: str) -> str:
    """Run the workflow on Slurm to its end and return the output of Snakemake."""
    before = (folder / "snakemake.log").stat().st_size if (folder / "snakemake.log").exists() else 0
    code = start(folder, *options).wait(timeout=900)
    said = (folder / "snakemake.log").read_text()[before:]
    assert code == 0, said[-3000:]
    return said


def jobs(*states: str) -> list[str]:
    """Return Slurm's numbers of the jobs in these states."""
    arguments = ["squeue", "-h", "-o", "%i", "-t", ",".join(states)]
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split()


@pytest.fixture
def project(tmp_path: Path, write_folder: Callable[..., Path], slurm: Path) -> Path:
    """Return a copy of the repository, with images and without results."""
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    write_folder(tmp_path / "parts", ("nut", "bolt"))
    write_folder(tmp_path / "others", ("gear",))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    return tmp_path


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, write_folder: Callable[..., Path]) -> str:
    """Return the digest of the metrics of a run on this machine without Slurm."""
    folder = tmp_path_factory.mktemp("local")
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    write_folder(folder / "parts", ("nut", "bolt"))
    write_folder(folder / "others", ("gear",))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    local = [sys.executable, "-m", "snakemake", "--cores", "2", METRICS, "--configfile", "tiny.yaml"]
    done = subprocess.run(local, cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return sha256(folder / METRICS)


def test_a_run_gives_the_same_metrics_as_a_local_run(project: Path, expected: str) -> None:
    said = finish(project)
    assert "Job 0 has been submitted" in said or "has been submitted with SLURM jobid" in said
    assert sha256(project / METRICS) == expected
    assert (project / "results/tiny/index.html").is_file()
    assert "Nothing to be done" in finish(project)


def test_a_killed_job_is_submitted_again(project: Path, expected: str) -> None:
    running = start(project, METRICS)
    wait_for(lambda: jobs("RUNNING"), 120)
    subprocess.run(["scancel", jobs("RUNNING")[0]], check=True)
    assert running.wait(timeout=900) == 0, (project / "snakemake.log").read_text()[-3000:]
    assert sha256(project / METRICS) == expected


def test_the_run_resumes_after_snakemake_was_killed_and_unlocked(project: Path, expected: str) -> None:
    running = start(project, METRICS)
    wait_for(lambda: jobs("RUNNING"), 120)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    wait_for(lambda: not jobs("RUNNING", "PENDING"), 300)  # submitted jobs finish without Snakemake
    unlock = [sys.executable, "-m", "snakemake", "--unlock", "--configfile", "tiny.yaml"]
    subprocess.run(unlock, cwd=project, env=environment(project), check=True, capture_output=True)
    finish(project, METRICS)
    assert sha256(project / METRICS) == expected


def test_ctrl_c_cancels_the_jobs_and_the_run_can_be_resumed(project: Path, expected: str) -> None:
    running = start(project, METRICS)
    wait_for(lambda: jobs("RUNNING"), 120)
    os.kill(running.pid, signal.SIGINT)
    assert running.wait(timeout=120) != 0
    wait_for(lambda: not jobs("RUNNING", "PENDING"), 60)
    finish(project, METRICS)
    assert sha256(project / METRICS) == expected


def test_a_refused_submission_is_reported_and_the_run_can_be_resumed(project: Path, expected: str) -> None:
    refused = start(project, METRICS, "--default-resources", "slurm_partition=nowhere")
    assert refused.wait(timeout=300) != 0
    assert "invalid partition" in (project / "snakemake.log").read_text()
    finish(project, METRICS)
    assert sha256(project / METRICS) == expected


WASTEFUL = """
rule all:
    input: "memory.txt", "time.txt"

rule memory:  # takes 600 MB: more than the first attempt may, less than the second
    output: "memory.txt"
    resources: mem_mb=lambda wildcards, attempt: 400 * attempt, runtime=5
    shell: "python -c 'import time; kept = bytearray(600 << 20); time.sleep(15)' && touch {output}"

rule time:  # takes 90 seconds or more: Slurm ends the first attempt after a minute
    output: "time.txt"
    resources: mem_mb=200, runtime=lambda wildcards, attempt: 3 * attempt - 2
    shell: "sleep 150 && touch {output}"
"""


def test_jobs_that_exceed_memory_or_time_are_retried_with_more(tmp_path: Path, slurm: Path) -> None:
    """Use the profile of the repository; like these two, rules of the workflow request more with each attempt."""
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    (tmp_path / "Snakefile").write_text(WASTEFUL)
    (tmp_path / "tiny.yaml").write_text("{}")
    said = finish(tmp_path)
    assert said.count("Trying to restart job") >= 2, said
    listed = subprocess.run(["squeue", "-h", "-t", "all", "-o", "%k %T"], check=True, capture_output=True, text=True)
    ends = [line.split() for line in listed.stdout.splitlines() if line.startswith(("rule_memory", "rule_time"))]
    assert ["rule_time", "TIMEOUT"] in ends, ends
    assert {state for rule, state in ends if rule == "rule_memory"} > {"COMPLETED"}, ends
