"""A Slurm of one node on this machine: `python -m tests.workflow.local_slurm COMMAND...`, first `--accounting` for one
whose jobs `sacct` knows.

It needs Debian's packages slurm-wlm and munge, for accounting slurmdbd and mariadb-server too. Everything it writes
lies in one folder, and it ends with the block.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb", "sacct", "sacctmgr")
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
START_SECONDS = 60

CONFIGURATION = """\
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
KillWait=20
MinJobAge=300
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
ACCOUNTED = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={storage}
AccountingStoragePass={folder}/munge.socket
"""
STORAGE = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={storage}
SlurmUser={user}
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""
"""of slurmdbd; its database listens on the loopback only, and is gone with the folder"""
GRANT = "CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm'; GRANT ALL ON slurm.* TO slurm@'127.0.0.1'"
PACKAGES = "slurm-wlm, munge; for accounting slurmdbd, mariadb-server"


def missing(accounting: bool = False) -> list[str]:
    """Programs of Slurm and munge that this machine lacks."""
    needed = PROGRAMS + (ACCOUNTING if accounting else ())
    return [name for name in needed if shutil.which(name, path=SEARCH) is None]


@contextlib.contextmanager
def slurm(folder: Path, accounting: bool = False) -> Iterator[dict[str, str]]:
    """Run munged, slurmctld and slurmd; yields the environment in which sbatch finds them.

    Args:
        folder: empty, and its path short: a socket lies in it.
        accounting: also run slurmdbd and its database.

    Raises:
        RuntimeError: a daemon ended or does not answer; the message has its log.
    """
    host = socket.gethostname().partition(".")[0]
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    controller, daemon, storage, database = _free_ports(4)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    configuration = folder / "slurm.conf"
    values = {"host": host, "user": getpass.getuser(), "folder": folder, "cores": cores, "memory": memory}
    values |= {"controller": controller, "daemon": daemon, "storage": storage, "database": database}
    configuration.write_text((CONFIGURATION + ACCOUNTED * accounting).format(**values))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    # Snakemake drops SLURM_CONF inside a job, before it calls srun
    wrapper = folder / "bin" / "srun"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {shutil.which("srun", path=SEARCH)} "$@"\n')
    wrapper.chmod(0o755)
    env = os.environ | {"PATH": os.pathsep.join([str(wrapper.parent), SEARCH]), "SLURM_CONF": str(configuration)}
    # a test inside a job of a real cluster must not be taken for a part of that job
    env = {
        name: value for name, value in env.items() if name == "SLURM_CONF" or not name.startswith(("SLURM_", "SBATCH_"))
    }
    files = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    commands = {"munged": ["munged", "--foreground", "--force", f"--key-file={key}", *files]}
    if accounting:
        (folder / "slurmdbd.conf").write_text(STORAGE.format(**values))
        (folder / "slurmdbd.conf").chmod(0o600)
        place = [f"--datadir={folder}/database", f"--user={getpass.getuser()}"]
        commands["mariadbd"] = ["mariadbd", "--no-defaults", *place, f"--socket={folder}/database.socket"]
        commands["mariadbd"] += [f"--port={database}", "--bind-address=127.0.0.1"]
        commands["slurmdbd"] = ["slurmdbd", "-D"]
        install = ["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", *place]
        subprocess.run(install, env=env, check=True, capture_output=True)
    commands |= {
        "slurmctld": ["slurmctld", "-D", "-i", "-f", str(configuration)],
        "slurmd": ["slurmd", "-D", "-f", str(configuration), "-N", host],
    }
    root = [f"--socket={folder}/database.socket", "--user=root"]
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with open(folder / f"{name}.log", "wb") as log:
                started[name] = subprocess.Popen(
                    command, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
                )
            if name == "munged":
                _wait(lambda: (folder / "munge.socket").exists(), started, folder)
            if name == "mariadbd":
                _wait(lambda: _answers(["mariadb", "--no-defaults", *root, "-e", GRANT], env), started, folder)
            if name == "slurmdbd":
                _wait(lambda: _answers(["sacctmgr", "-i", "add", "cluster", "local"], env), started, folder)
                _answers(["sacctmgr", "-i", "add", "account", "test"], env)
                _answers(["sacctmgr", "-i", "add", "user", getpass.getuser(), "account=test"], env)
        _wait(lambda: _idle(env), started, folder)
        yield env
    finally:
        subprocess.run(["scancel", "--user", getpass.getuser()], env=env, capture_output=True, timeout=30, check=False)
        for process in reversed(started.values()):
            process.terminate()
        for process in started.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answers(command: list[str], env: dict[str, str]) -> bool:
    return subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0


def _idle(env: dict[str, str]) -> bool:
    done = subprocess.run(["sinfo", "-h", "-o", "%T"], env=env, capture_output=True, text=True, check=False)
    return done.stdout.split() == ["idle"]


def _wait(ready, started: dict[str, subprocess.Popen[bytes]], folder: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not ready():
        ended = [name for name, process in started.items() if process.poll() is not None]
        if ended or time.monotonic() > end:
            logs = "".join(f"{name}: {(folder / f'{name}.log').read_text()[-1500:]}\n" for name in started)
            raise RuntimeError(f"{ended[0] if ended else 'Slurm'} did not start\n{logs}")
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]


def main() -> int:
    accounting = sys.argv[1:2] == ["--accounting"]
    if lacking := missing(accounting):
        sys.stderr.write(f"not installed: {', '.join(lacking)} (Debian: {PACKAGES})\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder, slurm(Path(folder), accounting) as env:
        return subprocess.run(sys.argv[1 + accounting :] or ["sinfo"], env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
