"""Receivers of notices: a webhook, a mailbox, or any notifier of Airflow."""

from __future__ import annotations

import copy
import inspect
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.airflow_internals.tasks import masked
from iam_watcher.errors import NoticeError, WatcherError, shown_at_the_call
from iam_watcher.log_lines import get_logger, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from iam_watcher.notices.notice import Notice

logger = get_logger(__name__)

PAUSES = (1.0, 2.0)  # seconds before the second and the third try
# What our text becomes in notifiers that would send one of their own, where the DAG file gives none.
_FILLED = {"SmtpNotifier": {"subject": "{{ notice.subject }}", "html_content": "{{ notice.html }}"}}


@shown_at_the_call
@dataclass(frozen=True)
class Webhook:
    """Sends a notice as JSON, by POST, to the URL of an Airflow connection.

    Slack, Mattermost and Teams show its `text`. The URI of the connection is the URL of the webhook, such as
    `https://hooks.slack.com/services/…`. A password without a login is sent as a bearer token.

    Args:
        conn_id: id of the connection.

    Raises:
        WatcherError: the id can't be that of a connection, such as a URL.
    """

    conn_id: str

    def __post_init__(self) -> None:
        """Refuse a URL, when the DAG file is parsed."""
        arguments.connection_id("conn_id of a Webhook", self.conn_id, raises=WatcherError)

    def __call__(self, context: Any) -> None:
        """Send it.

        Raises:
            NoticeError: it did not arrive.
        """
        from airflow.sdk import Connection

        self.send(Connection.get(self.conn_id), context["notice"])

    def send(self, connection: Any, notice: Notice) -> None:
        """Send it to that connection; see `__call__`."""
        from iam_watcher.notices import http

        body = json.dumps(notice.as_json(), default=str).encode()
        headers = {"Content-Type": "application/json", **http.headers_of(connection)}
        http.post(http.url_of(connection, notice.watcher) + http.query_of(connection), body, headers)


@shown_at_the_call
@dataclass(frozen=True)
class Mail:
    """Sends a notice as a mail, through the Airflow connection of an SMTP server.

    Args:
        to: a mail address, or a template of one.
        conn_id: id of the connection.

    Raises:
        WatcherError: there is no address, or the id can't be that of a connection, such as a URL.
    """

    to: str
    conn_id: str = "smtp_default"

    def __post_init__(self) -> None:
        """Refuse what is no address, and a URL, when the DAG file is parsed."""
        if not arguments.is_mail_address(self.to) and not arguments.is_template(self.to):
            raise WatcherError(
                f"to of a Mail is {arguments.unless_secret(self.to)}; expected a mail address such as "
                "'ops@example.com'. For several addresses, give a list of Mails"
            )
        arguments.connection_id("conn_id of a Mail", self.conn_id, raises=WatcherError)

    def notifier(self) -> Any:
        """Return Airflow's notifier that sends it."""
        return smtp_notifier(to=self.to, smtp_conn_id=self.conn_id)

    def __call__(self, context: Any) -> None:
        """Send it."""
        filled(self.notifier())(context)


def smtp_notifier(**arguments: Any) -> Any:
    """Return Airflow's notifier that sends a mail, with its arguments."""
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    return SmtpNotifier(**arguments)


def filled(receiver: Any) -> Any:
    """Return a copy that sends our text, where the DAG file gives none. A notifier can send only once."""
    found = copy.copy(receiver)
    for name, template in _FILLED.get(type(receiver).__name__, {}).items():
        if getattr(found, name, None) is None:
            setattr(found, name, template)
    return found


@dataclass(frozen=True)
class Sending:
    """A notice or ping on its way to one receiver.

    Args:
        name: of the receiver among those of the notice.
        what: for the log.
        send: sends it.
    """

    name: str
    what: str
    send: Callable[[], Any]


def sending(name: str, receiver: Callable[[Any], Any], context: Any, notice: Notice) -> Sending:
    """Return the sending of a notice to a receiver."""
    return Sending(
        name,
        f"the notice {notice.event!r} to {type(receiver).__name__}",
        lambda: filled(receiver)({**context, "notice": notice}),
    )


def send_all(sendings: Sequence[Sending], sent: Callable[[str], Any] = lambda _: None) -> None:
    """Send to each receiver, three times if need be, and say in the log what went wrong.

    All receivers get a first try before one gets a second: Airflow gives the callbacks of a task 20 s in all.
    It never raises: a run's result is not the notice's business.

    Args:
        sendings: in the order of the tries.
        sent: called with the name of each receiver that got it.
    """
    left = list(sendings)
    for pause in (*PAUSES, None):
        left = [one for one in left if not _is_sent(one, pause, sent)]
        if not left or pause is None:
            return
        time.sleep(pause)


def _is_sent(one: Sending, pause: float | None, sent: Callable[[str], Any]) -> bool:
    try:
        answer = one.send()
        if inspect.isawaitable(answer) or inspect.isgenerator(answer):
            raise NoticeError(f"the receiver returned a {type(answer).__name__}, which nobody runs")  # noqa: TRY301
    except Exception as error:  # noqa: BLE001  whatever a notifier raises
        again = "" if pause is None else f"; another try follows after {pause:g} s"
        logger.warning("%s was not sent: %s%s", one.what, reason_of(error), again)
        return False
    try:
        sent(one.name)
    except Exception as error:  # noqa: BLE001  such as an API server that is away
        logger.warning("that %s was sent is not stored: %s", one.what, reason_of(error))
    return True


def reason_of(error: Exception) -> str:
    """Return the text of an error of a receiver as one line, without secrets."""
    return one_line(masked(str(error) or type(error).__name__))
