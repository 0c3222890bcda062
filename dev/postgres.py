"""A private PostgreSQL, the database of Airflow in `make cluster`."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from dev.processes import ProcessError
from dev.server import Server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

_PROGRAMS = Path("/usr/lib/postgresql")  # of Debian's packages, by version
_ACCOUNT = "postgres"  # of Debian's packages; PostgreSQL refuses to run as root
_CONNECTIONS = 300


class PostgreSQL(Server):
    """A private PostgreSQL with one database and one account, both named `airflow`.

    As root, the server runs under Debian's account `postgres`. Its data is then in a folder of /var/tmp,
    because other accounts can't enter ours. The folder is deleted when the context ends.

    Args:
        folder: Where its log and (without root) its data are.
        arguments: More arguments for the server, such as `-c log_statement=all`.
        name: What messages and the log file call it.
    """

    user = database = "airflow"

    def __init__(self, folder: Path, arguments: Sequence[str] = (), *, name: str = "postgres") -> None:
        super().__init__(folder, arguments, name=name)
        self._as_root = os.geteuid() == 0
        self._data = self.folder / "data"
        if self._as_root:
            digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()
            self._data = Path("/var/tmp") / f"iam-watcher-postgres-{digest[:12]}"  # noqa: S108  the name is ours
        self._created = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        shutil.rmtree(self._data, ignore_errors=True)

    @property
    def sqlalchemy_uri(self) -> str:
        """The database as Airflow's `sql_alchemy_conn`."""
        return f"postgresql+psycopg2://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"

    def sql(self, statement: str) -> str:
        """Run a statement as the account `airflow`, a superuser here, and return its rows as text.

        Raises:
            ProcessError: The statement failed, or no server answers.
        """
        done = subprocess.run(
            [
                *(str(_program("psql")), "--no-psqlrc", "--tuples-only", "--no-align"),
                *("--host", self.host, "--port", str(self.port), "--username", self.user),
                *("--dbname", self.database if self._created else "postgres", "--command", statement),
            ],
            env={**os.environ, "PGPASSWORD": self.password, "PGCONNECT_TIMEOUT": "5"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ProcessError(f"{self.name}: {done.stderr.strip()}")
        return done.stdout.strip()

    def start(self) -> None:
        """Start the server and wait until it answers; the first start creates the database."""
        super().start()
        if not self._created:
            self.sql(f"CREATE DATABASE {self.database}")
            self._created = True

    def stop(self) -> None:
        """End the server. Sessions of clients are ended too."""
        # PostgreSQL's answer to SIGTERM is to wait until every client has left.
        if self._process is not None and self._process.running:
            self._process.signal(signal.SIGINT)
        super().stop()

    def _command(self) -> list[str]:
        if not self._created:
            self._create()
        return [
            *self._account(),
            str(_program("postgres")),
            *("-D", str(self._data), "-h", self.host, "-p", str(self.port), "-k", ""),
            # fsync guards against a power cut, which the data does not outlive anyway.
            *("-c", f"max_connections={_CONNECTIONS}", "-c", "fsync=off", "-c", "shared_buffers=64MB"),
            *self._arguments,
        ]

    def _account(self) -> list[str]:
        """Return the start of a command that runs the rest as the account of PostgreSQL."""
        if not self._as_root:
            return []
        # A change of the account takes away the signal at our end, so it is set again.
        account = [f"--reuid={_ACCOUNT}", f"--regid={_ACCOUNT}", "--clear-groups"]
        return ["setpriv", *account, "--pdeathsig", "INT", "--"]

    def _create(self) -> None:
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700)
        password = self._data.with_name(f"{self._data.name}.password")
        try:
            password.touch(mode=0o600)
            password.write_text(self.password)
            if self._as_root:
                account = pwd.getpwnam(_ACCOUNT)
                for path in (self._data, password):
                    os.chown(path, account.pw_uid, account.pw_gid)
            done = subprocess.run(
                [
                    *self._account(),
                    str(_program("initdb")),
                    *("-D", str(self._data), "--username", self.user, "--pwfile", str(password)),
                    *("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd="/",
                check=False,
            )
        finally:
            password.unlink(missing_ok=True)
        if done.returncode:
            raise ProcessError(f"{self.name}: initdb failed:\n{done.stdout}")

    def _ready(self) -> bool:
        try:
            return self.sql("SELECT 1") == "1"
        except ProcessError:
            return False


def _program(name: str) -> Path:
    """Return the newest installed program of PostgreSQL of that name.

    Raises:
        ProcessError: There is none; the message has the command that installs it.
    """
    found = [path for path in _PROGRAMS.glob(f"*/bin/{name}") if path.parent.parent.name.isdecimal()]
    if not found:
        raise ProcessError(f"{name} is not installed: run dev/bootstrap.sh cluster")
    return max(found, key=lambda path: int(path.parent.parent.name))
