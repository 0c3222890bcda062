"""Calls a URL when a run begins and ends, in the protocol of Healthchecks (healthchecks.io/docs/http_api).

A service outside of Airflow sees by this that runs stopped, also when Airflow, which would send all other
notices, is down itself. `/start`: the lock was acquired. The URL itself: the run worked; the body is the
report. `/fail`: a task failed. `/3`: a task failed, because a command ended with exit status 3. `/log`: the
run was skipped, which is neither. For a service that takes the state as a parameter, as Cronitor does, an
extra of the connection is `{state}`.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from iam_watcher.notices import http
from iam_watcher.notices.receivers import Sending

if TYPE_CHECKING:
    from iam_watcher.notices.notice import Notice

PING = "ping"  # its name among the receivers of a notice
START, SUCCESS, FAIL, LOG = "/start", "", "/fail", "/log"
_STATE = "{state}"
_STATES = {START: "run", SUCCESS: "complete", FAIL: "fail"}  # Cronitor's; it has none for a skip
_LONGEST = 10_000  # bytes of a body that Healthchecks takes without a word


@dataclass(frozen=True)
class Ping:
    """Pings the URL of an Airflow connection.

    Args:
        conn_id: the connection.
        names_watcher: the watcher's name follows the URL, unless the URL has `{watcher}`.
    """

    conn_id: str
    names_watcher: bool = False

    def sending(self, signal: str, dag_id: str, run_id: str, text: str = "") -> Sending:
        """Return the sending of a signal of a run."""
        what = f"the ping {signal or 'success'!r}"
        return Sending(PING, what, lambda: self._send(signal, dag_id, run_id, text))

    def sending_of(self, signal: str, notice: Notice) -> Sending:
        """Return the sending of a signal with a notice as its body.

        That of a command that failed has its exit status.
        """
        if signal == FAIL and notice.exit_status is not None:
            signal = f"/{notice.exit_status}"
        return self.sending(signal, notice.watcher, notice.run, notice.text)

    def _send(self, signal: str, dag_id: str, run_id: str, text: str) -> None:
        from airflow.sdk import Connection

        connection: Any = Connection.get(self.conn_id)
        # Tells the service which start and which end belong together.
        run = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{dag_id}/{run_id}"))
        url = http.url_of(connection, dag_id, append=self.names_watcher)
        if _STATE in http.extras_of(connection).values():
            if signal == LOG:
                return
            state = _STATES.get(signal, _STATES[FAIL])
            url += http.query_of(connection).replace(quote(_STATE), state)
        else:
            url += signal + http.query_of(connection, rid=run)
        headers = {"Content-Type": "text/plain; charset=utf-8", **http.headers_of(connection)}
        http.post(url, text.encode()[:_LONGEST], headers)
