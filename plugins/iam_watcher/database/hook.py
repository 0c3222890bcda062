"""MySQL connections with time-outs and one character set; their errors name connection, account and host."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.mysql.hooks.mysql import MySqlHook  # noqa: TID253  only run-time code imports this module
from airflow.sdk.exceptions import AirflowNotFoundException

from iam_watcher import arguments
from iam_watcher.database import tls_extras
from iam_watcher.database.connection import open_cursor
from iam_watcher.database.server_errors import REFUSED, UNREACHABLE, code_of
from iam_watcher.database.session import set_up
from iam_watcher.errors import ConnectionRefused, DatabaseUnavailable

if TYPE_CHECKING:
    from iam_watcher.database.connection import Connection

CONNECT_TIMEOUT = 10  # seconds
READ_TIMEOUT = 30  # seconds: several times longer than a statement may take, see session.SETTINGS
PORT = 3306

CLIENT = "mysqlclient"

CIPHER = "SHOW SESSION STATUS LIKE 'Ssl_cipher'"
TLS_MODES = ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")

IN_A_URI = (
    "in a URI, write special characters of the login, the password and the database percent-encoded: "
    "%2F for '/', %40 for '@', %3A for ':', %23 for '#', %3F for '?', %25 for '%'"
)


class JobMySqlHook(MySqlHook):
    """The provider's hook with time-outs, one character set and checks.

    A connection that is silent for too long counts as lost (error 2013): the provider sets no time-outs,
    so a silent server would hang a job. The character set is utf8mb4 whatever the connection's extras say.

    Args:
        mysql_conn_id: the Airflow connection.
        answer_within: seconds to wait for a connection and for each answer; default: CONNECT_TIMEOUT and
            READ_TIMEOUT.

    Raises:
        ConnectionRefused: no connection can have this id.
    """

    def __init__(self, mysql_conn_id: str, *, answer_within: int | None = None) -> None:
        arguments.connection_id("mysql_conn_id", mysql_conn_id, raises=ConnectionRefused)
        super().__init__(mysql_conn_id=mysql_conn_id)
        self._answer_within = answer_within
        self._wants_tls = False
        self._resolved: Any = None

    def resolve(self, found: Any = None) -> None:
        """Ask Airflow for the connection, once for all calls of `get_conn`, which any thread may then make.

        Args:
            found: the answer, if Airflow was asked already.

        Raises:
            DatabaseUnavailable: see `get_conn`.
        """
        conn_id = self.get_conn_id()
        if found is not None:
            self._resolved = found
            return
        try:
            self._resolved = self.get_connection(conn_id)
        except (AirflowNotFoundException, ValueError):
            # Not the error's own text, which repeats what may be a part of the password.
            raise DatabaseUnavailable(
                f"connection {conn_id!r} is not defined, or its URI can't be read; {IN_A_URI}"
            ) from None

    def get_conn(self) -> Any:
        """Return a connection that is set up for a job.

        Raises:
            ConnectionRefused: the connection says something that can't be meant, or the server refuses it in
                a way that trying again can't mend.
            DatabaseUnavailable: the server can't be reached, or has no place for another connection.
        """
        import MySQLdb

        conn_id = self.get_conn_id()
        if self._resolved is None:
            self.resolve()
        self.connection = conn = self._resolved
        # First of all: the extras are read as a JSON object below.
        if fault := tls_extras.fault(conn.extra):
            raise ConnectionRefused(f"connection {conn_id!r} {fault}. Nothing was sent to the server")
        if not conn.login:
            raise ConnectionRefused(f"connection {conn_id!r} names no login; {IN_A_URI}")
        client = conn.extra_dejson.get("client", CLIENT)
        if client != CLIENT:
            raise ConnectionRefused(
                f"connection {conn_id!r} has the extra client={client!r}; "
                f"the jobs need {CLIENT!r}: remove the extra"
            )
        connection = None
        try:
            connection = cast("Connection", super().get_conn())
            self._check_encryption(connection)
            set_up(connection)
        except MySQLdb.Error as error:
            if connection is not None:
                with suppress(MySQLdb.Error):
                    connection.close()
            code = code_of(error)
            advice = REFUSED.get(code or 0) or UNREACHABLE.get(code or 0)
            parts = [f"{self._where()}: {error}", advice, self._suspicion()]
            text = "; ".join(part for part in parts if part)
            raise (ConnectionRefused if code in REFUSED else DatabaseUnavailable)(text) from error
        except (TypeError, ValueError) as error:
            raise ConnectionRefused(f"{self._where()}: an extra is not valid: {error}") from error
        return connection

    def _get_conn_config_mysql_client(self, conn: Any) -> dict[str, Any]:
        config = super()._get_conn_config_mysql_client(conn)
        # The connection's own cursor class would return rows in another shape.
        config.pop("cursorclass", None)
        if config.get("ssl"):
            config.setdefault("ssl_mode", "REQUIRED")
        self._wants_tls = config.get("ssl_mode") in TLS_MODES
        return {
            **config,
            "charset": "utf8mb4",
            "use_unicode": True,
            "connect_timeout": self._answer_within or CONNECT_TIMEOUT,
            "read_timeout": self._answer_within or READ_TIMEOUT,
            "write_timeout": self._answer_within or READ_TIMEOUT,
        }

    def _check_encryption(self, connection: Connection) -> None:
        """Raise ConnectionRefused if TLS was asked for and is not in use.

        MariaDB's client library goes on unencrypted, whatever the mode, unless it has to verify the server.
        """
        if not self._wants_tls:
            return
        with open_cursor(connection) as cursor:
            cursor.execute(CIPHER)
            ((_, cipher),) = cursor.fetchall()
        if not cipher:
            connection.close()
            raise ConnectionRefused(
                f"{self._where()}: the extras ask for TLS, but the server does not offer it; "
                "no statement was sent. Set up TLS at the server, or remove the extras ssl and ssl_mode"
            )

    @property
    def place(self) -> str:
        """Host and port of the server, or its socket, as the connection names them, after `resolve`."""
        conn = self._resolved
        return conn.extra_dejson.get("unix_socket") or f"{conn.host or 'localhost'}:{conn.port or PORT}"

    def _where(self) -> str:
        login = cast("Any", self.connection).login
        return f"connection {self.get_conn_id()!r}, account {login!r} at {self.place}"

    def _suspicion(self) -> str | None:
        """Return advice if the connection looks like a URI whose password cut it in two."""
        conn = cast("Any", self.connection)
        return IN_A_URI if any(character in (conn.schema or "") for character in "/@") else None


def connect(mysql_conn_id: str, *, answer_within: int | None = None) -> Connection:
    """Return a new connection, set up for a job; for arguments and errors see `JobMySqlHook`."""
    return cast("Connection", JobMySqlHook(mysql_conn_id, answer_within=answer_within).get_conn())


def place(mysql_conn_id: str) -> str:
    """Return host and port of the server, or its socket, as an Airflow connection names them."""
    hook = JobMySqlHook(mysql_conn_id)
    hook.resolve()
    return hook.place
