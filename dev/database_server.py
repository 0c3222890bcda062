"""The base class of the private database servers: accounts, schema, data folder, connections."""

from __future__ import annotations

import os
import secrets
import subprocess
from abc import abstractmethod
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dev.processes import ProcessError, require
from dev.server import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

_SQL = Path(__file__).parent.parent / "include" / "sql"
SCHEMA_FILE = _SQL / "schema.sql"
GRANTS_FILE = _SQL / "grants.sql"
SAMPLE_FILE = _SQL / "sample.sql"


class DatabaseServer(Server):
    """A private server with two accounts: `admin` (everything) and `iam_watcher` (include/sql/grants.sql).

    Args:
        folder: Where its data, its log and its files are.
        arguments: More arguments for the server, such as `--sql-mode=ANSI` or `--log-bin=binlog`.
        name: What messages and the log file call it.

    Attributes:
        capabilities: What this server can do and another can't; see `pytest.mark.needs`.
    """

    user = "iam_watcher"
    admin_user = "admin"
    capabilities: ClassVar[frozenset[str]]

    def __init__(self, folder: Path, arguments: Sequence[str] = (), *, name: str = "database") -> None:
        super().__init__(folder, arguments, name=name)
        self.admin_password = secrets.token_urlsafe(24)

    @property
    def airflow_uri(self) -> str:
        """The watchers' account as an Airflow connection (the value of AIRFLOW_CONN_IAM_MYSQL)."""
        return f"mysql://{self.user}:{self.password}@{self.host}:{self.port}/iam"

    @property
    def airflow_admin_uri(self) -> str:
        """The admin account as an Airflow connection, for tables without grants for the watchers."""
        return f"mysql://{self.admin_user}:{self.admin_password}@{self.host}:{self.port}/iam"

    def connect(self, database: str = "iam", **options: Any) -> Any:
        """Return a new MySQLdb connection of the admin account; `options` go to MySQLdb.connect."""
        # MySQL's own default refuses zero dates, which rows of older servers have.
        mode = {"sql_mode": "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"}
        return self._connect(self.admin_user, self.admin_password, database, {**mode, **options})

    def connect_as_watcher(self, database: str = "iam", **options: Any) -> Any:
        """Return a new MySQLdb connection of the watchers' account; `options` go to MySQLdb.connect."""
        return self._connect(self.user, self.password, database, options)

    def run_script(self, script: Path) -> None:
        """Run an SQL file (with DELIMITER lines and all) through the mariadb client, as admin.

        Raises:
            ProcessError: A statement failed; the message has the client's error.
        """
        client = require("mariadb", "mariadb-client-core")
        where = [f"--host={self.host}", f"--port={self.port}", f"--user={self.admin_user}"]
        with script.open("rb") as text:
            done = subprocess.run(
                [client, "--no-defaults", "--default-character-set=utf8mb4", *where],
                stdin=text,
                capture_output=True,
                text=True,
                check=False,
                # Not as an argument: every user of the machine can read those.
                env={**os.environ, "MYSQL_PWD": self.admin_password},
            )
        if done.returncode:
            raise ProcessError(f"{script} failed: {done.stderr.strip()}")

    def create_schema(self) -> None:
        """Drop the database `iam`, create it from include/sql/schema.sql, and load include/sql/grants.sql."""
        with closing(self.connect(database="")) as connection, connection.cursor() as cursor:
            cursor.execute("DROP DATABASE IF EXISTS iam")
        self.run_script(SCHEMA_FILE)
        self.run_script(GRANTS_FILE)

    def _connect(self, user: str, password: str, database: str, options: dict[str, Any]) -> Any:
        import MySQLdb

        account = {"host": self.host, "port": self.port, "user": user, "password": password}
        return MySQLdb.connect(**account, database=database, **{"autocommit": True, **options})

    def _command(self) -> list[str]:
        data, temporary = self.folder / "data", self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        # Of its own: in /tmp a server of another container with the same process id takes the same names.
        own = [f"--tmpdir={temporary}"]
        if not data.exists():
            unfinished = data.with_suffix(".unfinished")
            self._run([*self._creation(unfinished), *own])
            # Created beside the final place and moved: no half-made folder stays.
            unfinished.rename(data)
        return [
            *self._server,
            f"--datadir={data}",
            f"--bind-address={self.host}",
            f"--port={self.port}",
            # Relative to the data folder: a socket's whole path must not exceed 107 bytes.
            "--socket=server.sock",
            f"--init-file={self._accounts_file()}",
            "--skip-name-resolve",
            # Survives a crash of the server, not one of the machine; such a server needs no more.
            "--innodb-flush-log-at-trx-commit=2",
            *own,
            *self._small,
            *self._arguments,
        ]

    @property
    @abstractmethod
    def _server(self) -> list[str]:
        """The server's program, with what it needs in any folder."""

    @property
    @abstractmethod
    def _small(self) -> list[str]:
        """Options that keep its folder small."""

    @abstractmethod
    def _creation(self, data: Path) -> list[str]:
        """Return the command that creates the system tables."""

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            raise ProcessError(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")

    @property
    def as_root(self) -> list[str]:
        """The option without which a server does not run as root."""
        # A server refuses to run as root unless told; in a container there often is nobody else.
        return ["--user=root"] if os.geteuid() == 0 else []

    def _accounts_file(self) -> Path:
        """Write the statements that the server runs before it accepts clients: one line each."""
        path = self.folder / "accounts.sql"
        path.touch(mode=0o600)
        admin = f"'{self.admin_user}'@'{self.host}'"
        path.write_text(
            f"CREATE USER IF NOT EXISTS {admin} IDENTIFIED BY '{self.admin_password}';\n"
            # Of an earlier start in the same folder.
            f"ALTER USER {admin} IDENTIFIED BY '{self.admin_password}';\n"
            f"GRANT ALL ON *.* TO {admin} WITH GRANT OPTION;\n"
            # Not replaced at a restart, which would lose its grants.
            f"CREATE USER IF NOT EXISTS {self.user} IDENTIFIED BY '{self.password}';\n"
        )
        return path

    def _ready(self) -> bool:
        import MySQLdb

        with suppress(MySQLdb.OperationalError):
            self.connect(database="", connect_timeout=2).close()
            return True
        return False
