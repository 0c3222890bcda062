"""A private database server and a private Redis, for the tests, `make demo` and `make run`.

Each listens on one loopback port, has its data in one folder, demands a generated password, and ends with the
process that started it. Other servers on this machine are never used.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dev.database_server import SAMPLE_FILE, SCHEMA_FILE, DatabaseServer
from dev.databases import MariaDB, chosen_database
from dev.processes import require
from dev.server import Server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from redis import Redis as RedisClient

__all__ = ["SAMPLE_FILE", "SCHEMA_FILE", "DatabaseServer", "MariaDB", "Redis", "chosen_database"]


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

        # redis-py's default tries for seconds before it reports that a server is away.
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
