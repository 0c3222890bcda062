"""A MariaDB and a Redis of our own: for the tests, `make demo` and `make run`.

Both listen on one loopback port only, keep everything in one folder, demand a generated password, and
end with the process that started them. A server that was on this machine before is never touched.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dev.processes import ProcessError, require
from dev.server import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis as RedisClient

_SQL = Path(__file__).parent.parent / "include" / "sql"
SCHEMA_FILE = _SQL / "schema.sql"
GRANTS_FILE = _SQL / "grants.sql"
SAMPLE_FILE = _SQL / "sample.sql"


class MariaDB(Server):
    """A private MariaDB with two accounts: `admin` (everything) and `iam_watcher` (include/sql/grants.sql).

    Args:
        folder: Where its data, its log and its files are.
        arguments: More arguments for mariadbd, such as `--sql-mode=ANSI` or `--log-bin=binlog`.
        name: What messages and the log file call it.
    """

    user = "iam_watcher"
    admin_user = "admin"

    def __init__(self, folder: Path, arguments: Sequence[str] = (), *, name: str = "mariadb") -> None:
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
        return self._connect(self.admin_user, self.admin_password, database, options)

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
        mariadbd = require("mariadbd", "mariadb-server-core")
        data = self.folder / "data"
        # mariadbd refuses to run as root unless told; in a container there often is nobody else.
        as_root = ["--user=root"] if os.geteuid() == 0 else []
        # Small redo logs: without them each new server would write 100 MB.
        small = ["--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M", "--skip-log-bin"]
        if not data.exists():
            self._create_data(data, [*as_root, *small])
        return [
            mariadbd,
            "--no-defaults",
            f"--datadir={data}",
            f"--bind-address={self.host}",
            f"--port={self.port}",
            # Relative to the data folder: a socket's whole path must not exceed 107 bytes.
            "--socket=mariadb.sock",
            f"--init-file={self._accounts_file()}",
            "--skip-name-resolve",
            "--skip-networking=OFF",
            # Survives a crash of mariadbd, not one of the machine; such a server needs no more.
            "--innodb-flush-log-at-trx-commit=2",
            *as_root,
            *small,
            *self._arguments,
        ]

    def _create_data(self, data: Path, options: list[str]) -> None:
        """Create the system tables beside the final place and move them: no half-made folder stays."""
        unfinished = self.folder / "data.unfinished"
        command = [
            require("mariadb-install-db", "mariadb-server-core"),
            "--no-defaults",
            f"--datadir={unfinished}",
            # root only through the socket and only for the same system user: no empty password.
            "--auth-root-authentication-method=socket",
            "--skip-name-resolve",
            "--skip-test-db",
            *options,
        ]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            raise ProcessError(f"mariadb-install-db failed:\n{done.stdout}{done.stderr}")
        unfinished.rename(data)

    def _accounts_file(self) -> Path:
        """Write the statements that mariadbd runs before it accepts clients: one line each."""
        path = self.folder / "accounts.sql"
        path.touch(mode=0o600)
        admin = f"'{self.admin_user}'@'{self.host}'"
        path.write_text(
            f"CREATE OR REPLACE USER {admin} IDENTIFIED BY '{self.admin_password}';\n"
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


class Redis(Server):
    """A private Redis without persistence.

    Args:
        folder: Where its log and its files are.
        arguments: More arguments for redis-server, such as `--maxmemory 5mb`.
        name: What messages and the log file call it.
        password: Whether clients need the generated `password`; without, it is empty.
    """

    def __init__(
        self, folder: Path, arguments: Sequence[str] = (), *, name: str = "redis", password: bool = True
    ) -> None:
        super().__init__(folder, arguments, name=name)
        if not password:
            self.password = ""

    @property
    def airflow_uri(self) -> str:
        """This server, database 0, as an Airflow connection (the value of AIRFLOW_CONN_IAM_REDIS)."""
        account = f":{self.password}@" if self.password else ""
        return f"redis://{account}{self.host}:{self.port}/?db=0"

    def client(self, **options: Any) -> RedisClient:
        """Return a new redis-py client of database 0, without retries; `options` go to redis.Redis."""
        from redis import Redis as Client
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # redis-py's default tries for seconds before it tells that a server is away.
        defaults = {"password": self.password or None, "retry": Retry(NoBackoff(), 0)}
        return Client(host=self.host, port=self.port, **{**defaults, **options})

    def _command(self) -> list[str]:
        # In a file, not as arguments: every user of the machine can read those.
        config = self.folder / "redis.conf"
        config.touch(mode=0o600)
        lines = [f"bind {self.host}", f"port {self.port}", "daemonize no", 'save ""', "appendonly no"]
        if self.password:
            lines.append(f"requirepass {self.password}")
        config.write_text("\n".join(lines) + "\n")
        return [
            require("redis-server", "redis-server"),
            str(config),
            "--dir",
            str(self.folder),
            *self._arguments,
        ]

    def _ready(self) -> bool:
        from redis.exceptions import RedisError

        with suppress(RedisError), self.client(socket_timeout=2, socket_connect_timeout=2) as client:
            return bool(client.ping())
        return False
