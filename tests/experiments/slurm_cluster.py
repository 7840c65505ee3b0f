"""A Slurm of one node, in a folder of its own: no accounting, no cgroups, two devices that stand for GPUs."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

PARTITION = "tests"
CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
JobRequeue=1
KillWait=1
MailProg=/bin/true
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 Gres=gpu:2 State=UNKNOWN
PartitionName={partition} Nodes={host} MaxTime=INFINITE State=UP
"""


@contextmanager
def slurm() -> Iterator[None]:
    """Start it, for all commands of Slurm; skip the test where it is not installed."""
    lacking = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name, path=_path()) is None]
    if lacking:
        pytest.skip(f"Slurm is not installed: no {', '.join(lacking)} (Debian: apt-get install slurm-wlm munge)")
    if os.getuid() != 0:
        pytest.skip("a Slurm of one's own needs root")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        _configure(folder)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PATH", _path())
        files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files]
        for command in (munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-c"]):
            log = stack.enter_context((folder / f"{command[0]}.out").open("w"))
            daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(daemon.wait, timeout=30)
            stack.callback(daemon.terminate)
            wait_for((folder / "munge.socket").exists, "munged")
        try:
            wait_for(lambda: _output("sinfo", "--noheader", "--format=%T").strip() == "idle", "an idle node")
        except AssertionError as error:
            raise AssertionError("\n".join(file.read_text() for file in folder.glob("*.out"))) from error
        stack.callback(_output, "scancel", "--me")
        yield


def wait_for(condition, what: str, seconds: float = 300) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def queue() -> dict[int, str]:
    """States of the jobs that Slurm remembers."""
    lines = _output("squeue", "--states=all", "--noheader", "--format=%i %T").splitlines()
    return {int(job): state for job, state in map(str.split, lines)}


def _configure(folder: Path) -> None:
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (first, second)]
    host = socket.gethostname().split(".")[0]
    text = CONFIG.format(host=host, folder=folder, ports=ports, partition=PARTITION)
    (folder / "slurm.conf").write_text(text)
    gpus = [f"NodeName={host} Name=gpu File=/dev/{device}\n" for device in ("null", "zero")]
    (folder / "gres.conf").write_text("".join(gpus))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)


def _path() -> str:
    """Where programs lie; those of the system are not in every user's path."""
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
