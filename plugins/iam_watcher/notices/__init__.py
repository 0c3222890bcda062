"""Sends notices about a Watcher's runs to people, and pings to services outside of Airflow.

* `Notify` sends a notice when a run fails, loses its lock, is skipped or succeeds.
* A ping (`ping=`) calls a URL when a run begins and ends, so that a service outside of Airflow can see that
  the runs stopped, also when Airflow itself is down.

An error while a notice or a ping is sent never changes the result of a run: the log has a warning. Secrets
are only in Airflow connections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any

from iam_watcher import arguments
from iam_watcher.errors import WatcherError, shown_at_the_call
from iam_watcher.notices.receivers import Mail, Webhook

__all__ = ["EVENTS", "Mail", "Notify", "Webhook"]

EVENTS = {
    "failure": "a task failed, and has no retry left",
    "lost": "a task failed because its run lost the lock",
    "skip": "the run was skipped: the lock was busy, another deployment did this scheduled time, or each of "
    "its tasks was skipped",
    "success": "the run succeeded",
    "overrun": "the run takes longer than the Watcher's `expected`",
    "stale": "the run was skipped, and none has worked for longer than the Watcher's `stale_after`",
}
KEYWORD = "keyword:"
"""The event `keyword:TEXT`: a line of a task's log has TEXT. Upper and lower case differ."""
_DEFAULT = ("failure", "lost", "overrun", "stale")

Receiver = Callable[[Any], Any]


@shown_at_the_call
@dataclass(frozen=True)
class Notify:
    """Which events send a notice, and to which receivers.

    Args:
        on: one event, or several: "failure", "lost", "skip", "success", "overrun", "stale" or "keyword:TEXT",
            see docs/notices.md. Default: failure, lost, overrun and stale.
        to: one receiver, or several: an Airflow notifier, a `Webhook`, a `Mail`, or a function that takes the
            context. The context has the `Notice` as `notice`, for templates: `"{{ notice.subject }}"`,
            `"{{ notice.text }}"`.

    Raises:
        WatcherError: names the argument, its value and what was expected.
    """

    _: KW_ONLY
    on: str | Sequence[str] = _DEFAULT
    to: Receiver | Sequence[Receiver]

    def __post_init__(self) -> None:
        """Refuse what can't work, when the DAG file is parsed."""
        events = tuple(self.on) if isinstance(self.on, list | tuple | set | frozenset) else (self.on,)
        known = f"{', '.join(EVENTS)}, {KEYWORD}TEXT"
        if unknown := [
            one for one in events if not isinstance(one, str) or not (one in EVENTS or _keyword(one))
        ]:
            raise WatcherError(f"Notify on={unknown[0]!r}; expected one of {known}")
        if not events:
            raise WatcherError(f"Notify on={self.on!r}; expected at least one of {known}")
        receivers = tuple(self.to) if isinstance(self.to, list | tuple) else (self.to,)
        if not receivers or not all(map(arguments.is_callback, receivers)):
            raise WatcherError(
                f"Notify to is {arguments.unless_secret(self.to)}; expected a notifier, a Webhook, a Mail, "
                "or a function that is not async, or a list of them"
            )
        object.__setattr__(self, "on", events)
        object.__setattr__(self, "to", receivers)

    @property
    def keywords(self) -> set[str]:
        """The texts that are looked for in the log of each task."""
        return {keyword for event in self.on if (keyword := _keyword(event))}

    @property
    def receivers(self) -> tuple[Receiver, ...]:
        """The receivers of the notices."""
        return self.to if isinstance(self.to, tuple) else ()


def _keyword(event: object) -> str:
    """Return the text that an event looks for; "" for another event, and for a text that is blank."""
    if not isinstance(event, str) or not event.startswith(KEYWORD):
        return ""
    keyword = event.removeprefix(KEYWORD)
    return keyword if keyword.strip() and "\n" not in keyword else ""


def as_tuple(notify: object) -> tuple[Notify, ...]:
    """Return what a Watcher's `notify=` says.

    Raises:
        WatcherError: it is no Notify, and no list of them.
    """
    if notify is None:
        return ()
    found = tuple(notify) if isinstance(notify, list | tuple) else (notify,)
    if not all(isinstance(one, Notify) for one in found):
        raise WatcherError(
            f"notify is {arguments.unless_secret(notify)}; expected a Notify(on=..., to=...), or a list of "
            "them"
        )
    return found


def positive(name: str, value: object) -> timedelta:
    """Return a duration of a Watcher's argument.

    Raises:
        WatcherError: it is no timedelta above zero.
    """
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise WatcherError(f"{name}={value!r}; expected a timedelta above zero")
    return value


def configured() -> tuple[Notify, ...]:
    """Return what `[iam_watcher] notify` says: mail addresses (`mailto:…`) and ids of HTTP connections.

    Raises:
        WatcherError: an entry is neither.
    """
    from airflow.configuration import conf

    text = conf.get("iam_watcher", "notify", fallback="")
    receivers: list[Receiver] = []
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        scheme, _, address = entry.partition(":")
        if scheme == "mailto" and arguments.is_mail_address(address):
            receivers.append(Mail(address))
        elif arguments.is_connection_id(entry):
            receivers.append(Webhook(entry))
        else:
            # Not repeated: a URL can have a secret in it.
            raise WatcherError(
                "[iam_watcher] notify has an entry that is not valid; expected mailto:address or "
                f"{arguments.CONNECTION_ID}"
            )
    return (Notify(to=receivers),) if receivers else ()


def configured_ping() -> str | None:
    """Return the id of the connection that `[iam_watcher] ping` names, or None.

    Raises:
        WatcherError: it can't be the id of a connection.
    """
    from airflow.configuration import conf

    value = conf.get("iam_watcher", "ping", fallback="") or None
    return value and arguments.connection_id("[iam_watcher] ping", value, raises=WatcherError)
