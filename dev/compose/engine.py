"""A Docker engine in a folder and namespaces of its own, from Debian's packages.

The engine has its own process table and mounts. So everything that it starts ends with it, also when the
engine is killed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dev.processes import Process, ProcessError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_PROGRAMS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iam-watcher" / "docker"
_START_SECONDS = 60
_STOP_SECONDS = 60
_CGROUPS = Path("/sys/fs/cgroup")
_CLONE_NEWNET = 0x40000000  # in Linux's sched.h


class Engine:
    """A Docker engine, and the programs `docker` and `docker compose` that use it; a context manager.

    Args:
        folder: For images, volumes and the log; the next engine in this folder has the same images.
        own_network: Whether the engine has a network of its own, apart from the machine's. Otherwise it uses
            the machine's, without a bridge or a change of its rules: enough for builds with `--network host`.

    Raises:
        ProcessError: This is not root, the programs are not there, or the engine does not start.
    """

    def __init__(self, folder: Path, *, own_network: bool) -> None:
        if os.geteuid() != 0:
            raise ProcessError("a Docker engine needs root: run this as root, or with sudo")
        if not _PROGRAMS.is_dir():
            raise ProcessError(f"{_PROGRAMS} is not there: run dev/download_servers.sh docker")
        self._folder = folder.absolute()
        self._own_network = own_network
        self._process: Process | None = None
        self._first = 0
        # A path of a socket is 107 bytes at most.
        self._short = Path(tempfile.mkdtemp(prefix="iam-watcher-engine-"))
        self._host = f"unix://{self._short}/docker.sock"
        self._cgroup = f"iam-watcher-{os.getpid()}"
        self._cgroups_before = _cgroup_folders("docker")
        libraries = f"{_PROGRAMS}/libraries"
        (architecture,) = {path.parent.name for path in _PROGRAMS.glob("root/usr/lib/*-linux-gnu*/xtables")}
        self.env = {
            "PATH": os.pathsep.join(
                [
                    f"{_PROGRAMS}/bin",
                    f"{_PROGRAMS}/root/usr/sbin",
                    f"{_PROGRAMS}/root/usr/bin",
                    os.environ.get("PATH", os.defpath),
                    "/usr/sbin",
                    "/sbin",
                    f"{_PROGRAMS}/root/sbin",
                    f"{_PROGRAMS}/root/bin",
                ]
            ),
            "LD_LIBRARY_PATH": libraries,
            "XTABLES_LIBDIR": f"{_PROGRAMS}/root/usr/lib/{architecture}/xtables",
            "DOCKER_HOST": self._host,
            "DOCKER_CONFIG": str(self._short),
            "DOCKER_BUILDKIT": "1",
            "HOME": str(self._short),
            "LANG": "C.UTF-8",
        }
        plugins = self._short / "cli-plugins"
        plugins.mkdir()
        (found,) = _PROGRAMS.glob("compose/root/usr/libexec/docker/cli-plugins/docker-compose")
        (plugins / "docker-compose").symlink_to(found)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        options = {
            "config-file": str(self._folder / "daemon.json"),
            "data-root": str(self._folder / "data"),
            "exec-root": "/run/docker",
            "pidfile": "/run/docker.pid",
            "host": self._host,
            "group": "0",
            "storage-driver": "overlay2",
            "cgroup-parent": f"/{self._cgroup}",
        }
        (self._folder / "daemon.json").write_text("{}")
        if not self._own_network:
            options |= {"bridge": "none", "iptables": "false", "ip-forward": "false", "ip-masq": "false"}
        self._process = Process(
            "dockerd",
            [
                "unshare",
                *("--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *(["--net"] if self._own_network else []),
                str(Path(__file__).with_name("engine.sh")),
                str(self._folder),
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            self._folder / "dockerd.log",
            env=self.env,
            stop_seconds=_STOP_SECONDS,
        )
        deadline = time.monotonic() + _START_SECONDS
        while self.docker("info", check=False).returncode:
            if not self._process.running:
                raise self._process.failure(f"ended with exit code {self._process.returncode}")
            if time.monotonic() > deadline:
                raise self._process.failure(f"does not answer after {_START_SECONDS} s")
            time.sleep(0.3)
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._first = int(children[0])

    def docker(
        self, *arguments: str, folder: Path | None = None, text: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker <arguments>` to its end.

        Args:
            arguments: Of docker, such as "compose", "ps".
            folder: Working folder; None: ours.
            text: Its standard input.
            check: Whether a failure raises.

        Raises:
            ProcessError: It failed; with what it printed.
        """
        done = subprocess.run(
            ["docker", *arguments],
            env=self.env,
            cwd=folder,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if check and done.returncode:
            raise ProcessError(f"docker {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done

    @contextmanager
    def network(self) -> Iterator[None]:
        """Make this thread's new connections in the engine's network."""
        libc = ctypes.CDLL(None, use_errno=True)
        with (
            Path("/proc/thread-self/ns/net").open("rb") as ours,
            Path(f"/proc/{self._first}/ns/net").open("rb") as theirs,
        ):

            def enter(number: int) -> None:
                if libc.setns(number, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "the network of the engine can't be used")

            enter(theirs.fileno())
            try:
                yield
            finally:
                enter(ours.fileno())

    def stop(self) -> None:
        """End the engine and all its containers, and remove what it made outside of its folder."""
        if self._process is not None:
            if self._first and self._process.running:
                with suppress(ProcessLookupError):
                    os.kill(self._first, signal.SIGTERM)
                self._process.wait(_STOP_SECONDS)
            self._process.stop()
            self._process = None
            self._first = 0
        made = _cgroup_folders(self._cgroup) | (_cgroup_folders("docker") - self._cgroups_before)
        for folder in made:
            # The kernel's own files in it go with it.
            for path in sorted([folder, *folder.rglob("*/")], reverse=True):
                path.rmdir()
        shutil.rmtree(self._short, ignore_errors=True)


def _cgroup_folders(name: str) -> set[Path]:
    """Return the cgroups of this name, of each controller (version 1) or of all (version 2)."""
    return {path for pattern in (name, f"*/{name}") for path in _CGROUPS.glob(pattern) if path.is_dir()}
