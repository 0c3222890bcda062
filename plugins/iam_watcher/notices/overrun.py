"""Sends a notice when a run takes longer than expected, with Airflow's deadline alerts.

The scheduler sees that a deadline has passed, and the triggerer calls `tell_overrun`. The triggerer has no
DAG file, so the receivers are passed as plain values: a Webhook, a Mail or an SmtpNotifier, and no other
receiver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from iam_watcher.errors import WatcherError
from iam_watcher.log_lines import get_logger
from iam_watcher.notices import notice
from iam_watcher.notices.receivers import PAUSES, Mail, Webhook, filled, reason_of, smtp_notifier

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from iam_watcher.notices import Notify
    from iam_watcher.notices.notice import Notice

logger = get_logger(__name__)

_TEXTS = ("subject", "html_content")  # of an SmtpNotifier


def alert(notify: Sequence[Notify], expected: timedelta) -> Any:
    """Return the deadline of a Watcher's runs, counted from when they are queued.

    Raises:
        WatcherError: there is no receiver for this event to which the triggerer can send.
    """
    sdk: Any = import_module("airflow.sdk")  # Its types lack the names of deadlines.
    wanted = [receiver for one in notify if "overrun" in one.on for receiver in one.receivers]
    to: list[dict[str, Any]] = []
    for spec in map(_spec, wanted):
        if spec is not None and spec not in to:
            to.append(spec)
    if not to:
        raise WatcherError(
            f"expected={expected!r} needs a receiver to which the triggerer can send: notify=Notify(to=...) "
            "with a Webhook, a Mail or an SmtpNotifier"
        )
    return sdk.DeadlineAlert(
        reference=sdk.DeadlineReference.DAGRUN_QUEUED_AT,
        interval=expected,
        callback=sdk.AsyncCallback(tell_overrun, kwargs={"expected": str(expected), "to": to}),
        name="expected",
    )


async def tell_overrun(*, expected: str, to: Sequence[Mapping[str, Any]], context: Any = None) -> None:
    """Send the notice that a run takes longer than expected. Called by the triggerer.

    Args:
        expected: how long it should take.
        to: the receivers, as `_spec` writes them.
        context: the run, as the scheduler gives it.
    """
    run = context["dag_run"]
    found = notice.of_overrun(run["dag_id"], run["dag_run_id"], expected)
    await asyncio.gather(*(_tell(spec, found) for spec in to))


async def _tell(spec: Mapping[str, Any], found: Notice) -> None:
    for pause in (*PAUSES, None):
        try:
            await _send(spec, found)
        except Exception as error:  # noqa: BLE001  whatever a connection or a server raises
            logger.warning("the notice 'overrun' was not sent: %s", reason_of(error))
            if pause is not None:
                await asyncio.sleep(pause)
        else:
            return


async def _send(spec: Mapping[str, Any], found: Notice) -> None:
    if "mail" in spec:
        from jinja2 import UndefinedError

        try:
            await _mail(spec["mail"], found)
        except UndefinedError as error:
            # A template of the file uses something of a task, and here is none.
            logger.warning("the notice 'overrun' is sent with its own text: %s", reason_of(error))
            await _mail({**spec["mail"], **dict.fromkeys(_TEXTS)}, found)
        return
    from airflow.sdk import Connection

    connection = await Connection.async_get(spec["webhook"])
    await asyncio.to_thread(Webhook(spec["webhook"]).send, connection, found)


async def _mail(arguments: Mapping[str, Any], found: Notice) -> None:
    notifier = filled(smtp_notifier(**arguments))
    notifier.context = {"notice": found}
    await notifier


def _spec(receiver: Any) -> dict[str, Any] | None:
    """Return a receiver as values that Airflow can store; None if it can't.

    They are `{"webhook": connection}`, or `{"mail": arguments of the SmtpNotifier}`.
    """
    if isinstance(receiver, Webhook):
        return {"webhook": receiver.conn_id}
    if isinstance(receiver, Mail):
        return {"mail": {"to": receiver.to, "smtp_conn_id": receiver.conn_id}}
    if type(receiver).__name__ != "SmtpNotifier":
        return None
    given = {name: getattr(receiver, name, None) for name in (*receiver.template_fields, "auth_type")}
    return {"mail": {name: _plain(value) for name, value in given.items() if value is not None}}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | Mapping) else list(value)
