"""Run a real Slurm of one node with a declared GPU, on the loopback interface. Needs root, slurm-wlm and munge."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SLURM = Path("/etc/slurm")  # the default path of the configuration, because job steps do not inherit SLURM_CONF
CONF = """\
ClusterName=drill
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
MinJobAge=300
KillWait=2
GresTypes=gpu
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def one_node(folder: Path) -> Iterator[None]:
    """Start Slurm with its state and logs in a folder, and stop it at the end.

    Raises:
        RuntimeError: this machine lacks a program or belongs to a cluster.
    """
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        raise RuntimeError(f"needs root{''.join(f' and {name}' for name in missing)}: apt-get install slurm-wlm munge")
    if (SLURM / "slurm.conf").exists():
        raise RuntimeError(
            f"{SLURM / 'slurm.conf'} exists, so this machine belongs to a cluster; run these tests elsewhere"
        )
    for name in ("state", "spool"):
        (folder / name).mkdir()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 8 // 10 // 2**20
    (SLURM / "slurm.conf").write_text(CONF.format(folder=folder, cores=os.cpu_count(), memory=memory))
    (SLURM / "gres.conf").write_text("NodeName=localhost Name=gpu File=/dev/null\n")
    daemons = [
        ["install", "-d", "-o", "munge", "-g", "munge", "-m", "0755", "/run/munge"],
        ["runuser", "-u", "munge", "--", "munged"],
        ["slurmctld"],
        ["slurmd", "-N", "localhost"],
    ]
    try:
        for command in daemons:
            _run(*command)
        wait_for(lambda: _run("sinfo", "-h", "-o", "%t").strip() == "idle", 60)
        yield
    finally:
        for file in (folder / "slurmd.pid", folder / "slurmctld.pid", Path("/run/munge/munged.pid")):
            if file.is_file():
                os.kill(int(file.read_text()), signal.SIGTERM)
        for name in ("slurm.conf", "gres.conf"):
            (SLURM / name).unlink(missing_ok=True)


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Wait until a condition is true.

    Raises:
        TimeoutError: it is still false after this number of seconds.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not true after {seconds} seconds")
        time.sleep(0.5)
