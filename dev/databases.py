"""The private database servers: the MariaDB of this machine, and those that are downloaded for the tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dev.database_server import DatabaseServer
from dev.processes import ProcessError, require

if TYPE_CHECKING:
    from collections.abc import Sequence

# Where dev/download_servers.sh puts servers.
_DOWNLOADS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iam-watcher"


class MariaDB(DatabaseServer):
    """The MariaDB of the machine's own Debian."""

    capabilities = frozenset({"address-types", "check-off", "ignored-index", "no-tls", "write-time-out"})

    def __init__(self, folder: Path, arguments: Sequence[str] = (), *, name: str = "mariadb") -> None:
        super().__init__(folder, arguments, name=name)

    @property
    def _server(self) -> list[str]:
        return [self._program("mariadbd"), "--no-defaults", "--skip-networking=OFF", *self.as_root]

    @property
    def _small(self) -> list[str]:
        # Without small redo logs each new server would write 100 MB.
        return ["--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M", "--skip-log-bin"]

    def _creation(self, data: Path) -> list[str]:
        return [
            self._program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={data}",
            # root only through the socket and only for the same system user: no empty password.
            "--auth-root-authentication-method=socket",
            "--skip-name-resolve",
            "--skip-test-db",
            *self._base,
            *self.as_root,
            *self._small,
        ]

    @property
    def _base(self) -> list[str]:
        return []

    def _program(self, name: str) -> str:
        return require(name, "mariadb-server-core")


class DownloadedMariaDB(MariaDB):
    """The MariaDB of Debian 13."""

    capabilities = MariaDB.capabilities - {"no-tls"}

    _FOLDER = "mariadb-11.8"

    @property
    def _server(self) -> list[str]:
        return [*super()._server, *self._base]

    @property
    def _base(self) -> list[str]:
        return [f"--basedir={_DOWNLOADS / self._FOLDER}"]

    def _program(self, name: str) -> str:
        return _downloaded(self._FOLDER, name)


class MySQL(DatabaseServer):
    """The MySQL of Debian unstable."""

    capabilities = frozenset(
        {"expression-index", "generated-key", "invisible-index", "offline-mode", "typed-json"}
    )

    def __init__(self, folder: Path, arguments: Sequence[str] = (), *, name: str = "mysql") -> None:
        super().__init__(folder, arguments, name=name)

    @property
    def _server(self) -> list[str]:
        return [_downloaded("mysql", "mysqld"), *self.as_root, "--mysqlx=OFF", "--secure-file-priv="]

    @property
    def _small(self) -> list[str]:
        return ["--innodb-redo-log-capacity=16M", "--innodb-buffer-pool-size=64M", "--skip-log-bin"]

    def _creation(self, data: Path) -> list[str]:
        # The account root has no password and is reached through the socket only, in our own folder.
        return [*self._server, f"--datadir={data}", *self._small, "--initialize-insecure"]


DATABASES = {"mariadb": MariaDB, "mariadb-11.8": DownloadedMariaDB, "mysql": MySQL}

CHOSEN_BY = "IAM_WATCHER_DATABASE"


def chosen_database() -> type[DatabaseServer]:
    """Return the kind of server that the environment variable IAM_WATCHER_DATABASE names.

    Raises:
        ProcessError: It names none.
    """
    name = os.environ.get(CHOSEN_BY) or "mariadb"
    if name not in DATABASES:
        raise ProcessError(f"{CHOSEN_BY} is {name!r}; expected one of {', '.join(DATABASES)}")
    return DATABASES[name]


def _downloaded(server: str, program: str) -> str:
    for folder in ("bin", "sbin"):
        if (path := _DOWNLOADS / server / folder / program).exists():
            return str(path)
    raise ProcessError(f"{server} is not in {_DOWNLOADS}: run dev/download_servers.sh {server}")
