"""MySQL connections with time-outs: the provider's hook has none, so a silent server would hang a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow.providers.mysql.hooks.mysql import MySqlHook  # noqa: TID253  only run-time code imports this module

from iam_watcher.jobs.session import set_up

if TYPE_CHECKING:
    from iam_watcher.jobs.transaction import Connection

CONNECT_TIMEOUT = 10  # seconds
READ_TIMEOUT = 30  # seconds: several times longer than a statement may take, see session.SETTINGS


class JobMySqlHook(MySqlHook):
    """The provider's hook; a connection that is silent for too long counts as lost (error 2013).

    Args:
        mysql_conn_id: the Airflow connection.
        answer_within: seconds to wait for a connection and for each answer; default: CONNECT_TIMEOUT and
            READ_TIMEOUT.
    """

    def __init__(self, mysql_conn_id: str, *, answer_within: int | None = None) -> None:
        super().__init__(mysql_conn_id=mysql_conn_id)
        self._answer_within = answer_within

    def _get_conn_config_mysql_client(self, conn: Any) -> dict[str, Any]:
        config = super()._get_conn_config_mysql_client(conn)
        # The connection's own cursor class would return rows in another shape.
        config.pop("cursorclass", None)
        return {
            **config,
            "connect_timeout": self._answer_within or CONNECT_TIMEOUT,
            "read_timeout": self._answer_within or READ_TIMEOUT,
            "write_timeout": self._answer_within or READ_TIMEOUT,
        }


def connect(mysql_conn_id: str, *, answer_within: int | None = None) -> Connection:
    """Return a new connection, set up for a job; for the arguments see `JobMySqlHook`."""
    hook = JobMySqlHook(mysql_conn_id, answer_within=answer_within)
    connection = cast("Connection", hook.get_conn())
    set_up(connection)
    return connection
