"""Adds the notices and the metrics of a Watcher to its tasks and to itself, as callbacks of Airflow.

The task that fails or is skipped sends the notice in its own process, where the error is known. If that
process was killed, or a person ended the task, the DAG processor sends the notice of a failed run. The last
task, `release`, sends the notice of a successful run. Without a lock, the DAG processor sends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from iam_watcher.airflow_internals import tasks
from iam_watcher.airflow_internals.dag_files import add_callback, add_dag_callback, wrap_pre_execute
from iam_watcher.arguments import connection_id
from iam_watcher.errors import WatcherError
from iam_watcher.lock import ACQUIRE_TASK_ID, RELEASE_TASK_ID, current
from iam_watcher.lock.release import states_of_work
from iam_watcher.notices import (
    KEYWORD,
    as_tuple,
    configured,
    configured_ping,
    metrics,
    notice,
    overrun,
    positive,
    stale,
)
from iam_watcher.notices.ping import FAIL, LOG, START, SUCCESS, Ping
from iam_watcher.notices.receivers import Sending, send_all, sending

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow.sdk import DAG

    from iam_watcher.notices import Notify, Receiver
    from iam_watcher.notices.notice import Notice

_FAILED = {"failed", "upstream_failed"}
# XCom of a task that failed: the receivers that got its notice, and when this execution of the run began.
_FAILURE_SENT = "failure_sent"


@dataclass(frozen=True)
class Notices:
    """The notices and pings of a Watcher.

    Attributes:
        notify: the events and their receivers.
        ping: the URL that is called when a run begins and ends.
        stale_after: the time after which a Watcher whose runs are all skipped sends a notice.
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
        found = Ping(connection_id("ping", ping, raises=WatcherError)) if ping is not None else None
        subscriptions = (*as_tuple(notify), *configured())
        if found is None and (everyones := configured_ping()):
            found = Ping(everyones, names_watcher=True)
        if stale_after is None:
            return cls(subscriptions, found)
        patience = positive("stale_after", stale_after)
        if not any("stale" in one.on for one in subscriptions):
            raise WatcherError(f"stale_after={stale_after!r} needs notify=Notify(on='stale', to=...)")
        return cls(subscriptions, found, patience)

    def deadlines(self, expected: object, others: object = None) -> list[Any]:
        """Return the deadlines of a Watcher's runs: that of `expected`, and those of its file.

        Raises:
            WatcherError: see `overrun.alert`.
        """
        own = others if isinstance(others, list | tuple) else [others] if others else []
        return [overrun.alert(self.notify, positive("expected", expected)), *own]

    def attach(self, dag: DAG) -> None:
        """Add the callbacks to a DAG that has all of its tasks."""
        for task in dag.tasks:
            add_callback(task, "on_failure_callback", self._failed)
        self._look_for_keywords(dag)
        if self.notify or self.ping is not None:
            add_dag_callback(dag, "on_failure_callback", self._run_failed)
        if ACQUIRE_TASK_ID in dag.task_dict:
            self._attach_to_lock(dag)
            return
        if self.ping is not None:
            for task in dag.roots:
                add_callback(task, "on_execute_callback", self._started)
        if self.ping is not None or any({"success", "skip"} & {*one.on} for one in self.notify):
            add_dag_callback(dag, "on_success_callback", self._run_ended_well)

    def _attach_to_lock(self, dag: DAG) -> None:
        acquire, release = dag.task_dict[ACQUIRE_TASK_ID], dag.task_dict[RELEASE_TASK_ID]
        add_callback(acquire, "on_skipped_callback", self._skipped)
        add_callback(acquire, "on_success_callback", self._acquired)
        add_callback(release, "on_success_callback", self._released)
        for task in dag.tasks:
            for name in tasks.CALLBACKS if task not in (acquire, release) else ():
                add_callback(task, name, self._ended)

    def _look_for_keywords(self, dag: DAG) -> None:
        if not any(one.keywords for one in self.notify):
            return
        for task in dag.tasks:
            if task.task_id in (ACQUIRE_TASK_ID, RELEASE_TASK_ID):
                continue
            wrap_pre_execute(task, self._watch_log)
            for name in tasks.CALLBACKS:
                add_callback(task, name, self._tell_keywords)

    def tell(self, context: Any, found: Notice, *events: str) -> None:
        """Send a notice to the receivers of one of these events, to each of them once."""
        send_all(self._sendings(context, found, *events))

    def _sendings(
        self, context: Any, found: Notice, *events: str, signal: str | None = None
    ) -> list[Sending]:
        """Return the sendings of a notice: to people first, then the ping, if there is a signal for it."""
        everyone: list[Receiver] = []
        asked: set[int] = set()
        for one in self.notify:
            everyone += [receiver for receiver in one.receivers if receiver not in everyone]
            if {found.event, *events} & {*one.on}:
                asked.update(map(everyone.index, one.receivers))
        sendings = [sending(str(number), everyone[number], context, found) for number in sorted(asked)]
        if self.ping is not None and signal is not None:
            sendings.append(self.ping.sending_of(signal, found))
        return sendings

    def _acquired(self, context: Any) -> None:
        metrics.acquired(context["ti"])
        self._started(context)
        if self.stale_after is not None:
            stale.note_work(context)

    def _started(self, context: Any) -> None:
        if self.ping is not None:
            send_all([self.ping.sending(START, context["ti"].dag_id, context["ti"].run_id)])

    def _ended(self, context: Any) -> None:
        metrics.renewed(context["ti"], current.failed_renewals())

    def _failed(self, context: Any) -> None:
        if notice.lost_lock(context.get("exception")):
            metrics.lost(context["ti"])
        if context["ti"].task_id in (ACQUIRE_TASK_ID, RELEASE_TASK_ID):
            # `release` does not run after an `acquire` that failed; else its success tells how a run ended.
            metrics.failed(context["ti"])
        if not self.notify and self.ping is None:
            return
        told: list[str] = []

        def sent(name: str) -> None:
            told.append(name)
            context["ti"].xcom_push(key=_FAILURE_SENT, value={"began": _began(context), "told": told})

        send_all(self._failure(context, notice.of_failure(context)), sent)

    def _watch_log(self, context: Any) -> None:  # noqa: ARG002  the signature of `pre_execute`
        from iam_watcher.notices import keywords

        keywords.begin(set().union(*(one.keywords for one in self.notify)))

    def _tell_keywords(self, context: Any) -> None:
        from iam_watcher.notices import keywords

        for keyword, line in sorted(keywords.end(context.get("exception")).items()):
            self.tell(context, notice.of_keyword(context, f"{KEYWORD}{keyword}", line))

    def _run_failed(self, context: Any) -> None:
        """Send the notice that no task sent, because its process was killed or a person ended it."""
        if not tasks.has_supervisor():
            return
        ti = context.get("ti")
        names = [task.task_id for task in context["dag"].tasks]
        stored = () if ti is None else ti.xcom_pull(task_ids=names, key=_FAILURE_SENT)
        sent = [one for one in stored if isinstance(one, dict) and one["began"] == _began(context)]
        told = {name for one in sent for name in one["told"]}
        found = self._failure(context, notice.of_failed_run(context))
        send_all([one for one in found if one.name not in told])

    def _failure(self, context: Any, found: Notice) -> list[Sending]:
        return self._sendings(context, found, "failure", signal=FAIL)

    def _skipped(self, context: Any) -> None:
        found = notice.of_skip(context)
        metrics.skipped(context["ti"], done=bool(found.holder and found.holder.get("done")))
        send_all(self._sendings(context, found, signal=LOG))
        if self.stale_after is None:
            return
        since = stale.skipped_since(context)
        if datetime.now(UTC) - since > self.stale_after:
            more = f". No run has worked since {since.isoformat(timespec='seconds')}"
            self.tell(context, notice.of_skip(context, event="stale", more=more))

    def _released(self, context: Any) -> None:
        ti = context["ti"]
        states = states_of_work(ti)
        failed = not _FAILED.isdisjoint(states.values())
        worked = "success" in states.values()
        outcome = metrics.FAILED if failed else metrics.SUCCESS if worked else metrics.NOTHING_DONE
        holder = ti.xcom_pull(task_ids=ACQUIRE_TASK_ID, key="holder")
        metrics.released(ti, holder and holder["since"], outcome)
        if failed:
            return
        if worked:
            self._worked(context)
        else:
            self._did_nothing(context, ti.run_id, sorted(states))

    def _run_ended_well(self, context: Any) -> None:
        """Send the notice of a run without a lock. Airflow gives a task that succeeded, if there is one."""
        if context.get("ti") is not None:
            self._worked(context)
        else:
            self._did_nothing(context, context["run_id"], [task.task_id for task in context["dag"].tasks])

    def _worked(self, context: Any) -> None:
        if self.ping is None and not any("success" in one.on for one in self.notify):
            return
        found = notice.of_success(context)
        send_all(self._sendings(context, found, signal=SUCCESS))

    def _did_nothing(self, context: Any, run_id: str, skipped: Sequence[str]) -> None:
        found = notice.of_nothing_done(context["dag"].dag_id, run_id, skipped)
        send_all(self._sendings(context, found, signal=LOG))


def _began(context: Any) -> str:
    """Return when this execution of the run began: it begins anew when tasks are cleared after its end."""
    return str(getattr(context.get("dag_run"), "start_date", None))
