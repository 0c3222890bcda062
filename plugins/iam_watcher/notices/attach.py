"""Puts the notices of a Watcher on its tasks and on itself, as callbacks of Airflow.

The task that fails or is skipped tells it in its own process, where the error is known, or in Airflow's DAG
processor, if that process was killed. That a run worked is told by its last task, `release`. Without a lock
the DAG processor tells it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from iam_watcher.airflow_internals.dag_files import add_callback, add_success_callback
from iam_watcher.errors import WatcherError
from iam_watcher.lock import ACQUIRE_TASK_ID, RELEASE_TASK_ID
from iam_watcher.notices import as_tuple, configured, configured_ping, notice, overrun, positive
from iam_watcher.notices.ping import FAIL, LOG, START, SUCCESS, Ping
from iam_watcher.notices.receivers import tell
from iam_watcher.notices.stale import skipped_since

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow.sdk import DAG

    from iam_watcher.notices import Notify
    from iam_watcher.notices.notice import Notice

_FAILED = {"failed", "upstream_failed"}


@dataclass(frozen=True)
class Notices:
    """What a Watcher tells.

    Attributes:
        notify: who is told what.
        ping: what is called when a run begins and ends.
        stale_after: after how long a Watcher whose runs are all skipped is told.
    """

    notify: Sequence[Notify] = ()
    ping: Ping | None = None
    stale_after: timedelta | None = None

    @classmethod
    def of(cls, notify: object, ping: object, stale_after: object = None) -> Self:
        """Return what a Watcher's arguments and `[iam_watcher]` say.

        Raises:
            WatcherError: names the argument, its value and what was expected.
        """
        if ping is not None and (not isinstance(ping, str) or not ping or "/" in ping):
            # Not repeated: a URL can hold a secret.
            raise WatcherError("ping=...; expected the id of an Airflow connection, which has the URL")
        told = (*as_tuple(notify), *configured())
        found = Ping(ping) if isinstance(ping, str) else None
        if found is None and (everyones := configured_ping()):
            found = Ping(everyones, names_watcher=True)
        if stale_after is None:
            return cls(told, found)
        patience = positive("stale_after", stale_after)
        if not any("stale" in one.on for one in told):
            raise WatcherError(f"stale_after={stale_after!r} needs notify=Notify(on='stale', to=...)")
        return cls(told, found, patience)

    def deadlines(self, expected: object, others: object = None) -> list[Any]:
        """Return the deadlines of a Watcher's runs: that of `expected`, and those of its file.

        Raises:
            WatcherError: see `overrun.alert`.
        """
        own = others if isinstance(others, list | tuple) else [others] if others else []
        return [overrun.alert(self.notify, positive("expected", expected)), *own]

    def attach(self, dag: DAG) -> None:
        """Add the callbacks to a DAG that has all of its tasks."""
        if not self.notify and self.ping is None:
            return
        locked = ACQUIRE_TASK_ID in dag.task_dict
        for task in dag.tasks:
            add_callback(task, "on_failure_callback", self._failed)
            if task.task_id == ACQUIRE_TASK_ID:
                add_callback(task, "on_skipped_callback", self._skipped)
        if self.ping is not None:
            if locked:
                add_callback(dag.task_dict[ACQUIRE_TASK_ID], "on_success_callback", self._started)
            else:
                for task in dag.roots:
                    add_callback(task, "on_execute_callback", self._started)
        if self.ping is None and not self._wants("success"):
            return
        if locked:
            add_callback(dag.task_dict[RELEASE_TASK_ID], "on_success_callback", self._released)
        else:
            add_success_callback(dag, self._worked)

    def _wants(self, event: str) -> bool:
        return any(event in one.on for one in self.notify)

    def tell(self, context: Any, found: Notice, *events: str) -> None:
        """Tell those who want to know of one of these events; each of them once."""
        receivers = [
            receiver
            for one in self.notify
            if {found.event, *events} & {*one.on}
            for receiver in one.receivers
        ]
        for receiver in dict.fromkeys(receivers):
            tell(receiver, context, found)

    def _started(self, context: Any) -> None:
        if self.ping is not None:
            self.ping.send(START, context["ti"].dag_id, context["ti"].run_id)

    def _failed(self, context: Any) -> None:
        found = notice.of_failure(context)
        if self.ping is not None:
            self.ping.send_notice(FAIL, found)
        self.tell(context, found, "failure")

    def _skipped(self, context: Any) -> None:
        found = notice.of_skip(context)
        if self.ping is not None:
            self.ping.send_notice(LOG, found)
        self.tell(context, found)
        if self.stale_after is None:
            return
        since = skipped_since(context)
        if datetime.now(UTC) - since > self.stale_after:
            more = f". No run has worked since {since.isoformat(timespec='seconds')}"
            self.tell(context, notice.of_skip(context, event="stale", more=more))

    def _released(self, context: Any) -> None:
        ti = context["ti"]
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
        if not _FAILED & {str(state) for state in states.values()}:
            self._worked(context)

    def _worked(self, context: Any) -> None:
        found = notice.of_success(context)
        if self.ping is not None:
            self.ping.send_notice(SUCCESS, found)
        self.tell(context, found)
