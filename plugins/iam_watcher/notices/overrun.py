"""Sends a notice when a run takes longer than expected, with Airflow's deadline alerts.

The scheduler sees that a deadline has passed, and the triggerer calls `tell_overrun`. The triggerer has no
DAG file, so the receivers are passed as plain values: a Webhook, a Mail or an SmtpNotifier, and no other
receiver.
"""

from __future__ import annotations

import asyncio
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


def alert(notify: Sequence[Notify], expected: timedelta) -> Any:
    """Return the deadline of a Watcher's runs, counted from when they are queued.

    Raises:
        WatcherError: there is no receiver for this event to which the triggerer can send.
    """
    sdk: Any = import_module("airflow.sdk")  # Its types lack the names of deadlines.
    wanted = [receiver for one in notify if "overrun" in one.on for receiver in one.receivers]
    specs = [tuple(spec) for receiver in wanted for spec in _specs(receiver)]
    to = list(map(list, dict.fromkeys(specs)))  # each of them once
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


async def tell_overrun(*, expected: str, to: Sequence[Sequence[str]], context: Any = None) -> None:
    """Send the notice that a run takes longer than expected. Called by the triggerer.

    Args:
        expected: how long it should take.
        to: the receivers, as `_specs` writes them.
        context: the run, as the scheduler gives it.
    """
    run = context["dag_run"]
    found = notice.of_overrun(run["dag_id"], run["dag_run_id"], expected)
    await asyncio.gather(*(_tell(list(spec), found) for spec in to))


async def _tell(spec: list[str], found: Notice) -> None:
    for pause in (*PAUSES, None):
        try:
            await _send(spec, found)
        except Exception as error:  # noqa: BLE001  whatever a connection or a server raises
            logger.warning("the notice 'overrun' was not sent: %s", reason_of(error))
            if pause is not None:
                await asyncio.sleep(pause)
        else:
            return


async def _send(spec: list[str], found: Notice) -> None:
    kind, conn_id, *address = spec
    if kind == "mail":
        notifier = filled(smtp_notifier(address[0], conn_id))
        notifier.context = {"notice": found}
        await notifier
        return
    from airflow.sdk import Connection

    connection = await Connection.async_get(conn_id)
    await asyncio.to_thread(Webhook(conn_id).send, connection, found)


def _specs(receiver: Any) -> list[list[str]]:
    """Return a receiver as values that Airflow can store: `[kind, connection, address]`; none if it can't."""
    if isinstance(receiver, Webhook):
        return [["webhook", receiver.conn_id]]
    if isinstance(receiver, Mail):
        return [["mail", receiver.conn_id, receiver.to]]
    if type(receiver).__name__ == "SmtpNotifier":
        addresses = receiver.to.split(",") if isinstance(receiver.to, str) else receiver.to
        return [["mail", receiver.smtp_conn_id, address.strip()] for address in addresses]
    return []
