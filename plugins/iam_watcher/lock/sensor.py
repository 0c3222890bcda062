"""RedisLockSensor: the first task of a Watcher, which waits for the lock and acquires it."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from iam_watcher.airflow_internals.tasks import is_tasks_test
from iam_watcher.errors import DeploymentIdError
from iam_watcher.lock.facts import LockFacts
from iam_watcher.lock.outcome import MAY_COME, Verdict
from iam_watcher.lock.refusal import hint_of_parent, refuse
from iam_watcher.log_lines import fact, get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from iam_watcher.lock import Lock
    from iam_watcher.lock.grant import Grant
    from iam_watcher.lock.holder import Holder
    from iam_watcher.lock.lease import Lease

logger = get_logger(__name__)

POLL = (0.05, 0.25)  # seconds between two tries, at random so that waiters don't all ask at the same moment
LONGEST_POLLING = 10.0  # seconds; in a longer wait, the triggerer waits and no worker is needed
# Seconds in which the first waiter acquires a free lock, or the queue skips it: see queue_scripts.
OTHERS_COME_WITHIN = 17.0


class RedisLockSensor(BaseSensorOperator):
    """Acquires a Redis lock for this DAG run, or waits for it.

    The sensor tries at once. If `wait` of the lock is longer than 10 s, the sensor defers to the triggerer.
    Runs that wait are in a queue, and the first one that is alive gets the lock. The deadline counts from the
    first try, across deferrals and retries. A sensor's own `timeout` and `mode` have no effect.

    In an Airflow that is a standby, the sensor of a scheduled run first waits for `standby_delay`.

    The sensor pushes the XCom `holder` (key, owner, deployment, since), which says who holds the lock when
    the sensor ends. It returns the grant, with which the next tasks find the lock.

    :param lock: the lock, how long to wait for it, and what to do if it stays busy.
    :param per_tick: whether runs of this DAG may overlap; each then has its own key.
    """

    ui_color = "#e6d8f2"
    # For people and pages: Airflow stores what is listed here with the DAG, so the lock is known before the
    # first run. The lock itself is `self.lock`, which no template changes.
    template_fields: Sequence[str] = ("lock_facts",)

    def __init__(self, *, lock: Lock, per_tick: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lock = lock
        self.per_tick = per_tick
        self.lock_facts = LockFacts.of(lock, self.dag_id, per_tick=per_tick).as_dict()
        self._stopped = False

    def execute(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Return the grant.

        Args:
            context: of this task.
            event: after a deferral, why the triggerer woke this task: a dictionary of RedisLockTrigger, or
                the time until which a standby waited. The sensor tries again in any case.

        Raises:
            AirflowSkipException: the lock stayed busy and `on_busy` is "skip", or the tick is done.
            AirflowFailException: the lock stayed busy and `on_busy` is "fail", or the deployment has no id
                of its own, or its `standby_delay` is not valid.
            LockUnavailable: Redis does not answer, or refuses the request.
            TaskDeferred: the triggerer waits from now on.
        """
        from iam_watcher.lock import trial_run
        from iam_watcher.lock.deployment import claim, standby_delay
        from iam_watcher.lock.grant import Grant

        if trial_run.locks_are_off():
            logger.warning("Locks are off in this test: nothing is acquired")
            return {}
        if isinstance(event, dict):
            logger.info("the triggerer woke this task: key=%s reason=%s", event["key"], event["reason"])
        try:
            grant = Grant.of(self.lock, context, per_tick=self.per_tick)
            clients = grant.clients()
            claim(clients)
            delay = standby_delay()
        except DeploymentIdError as error:
            raise AirflowFailException(str(error)) from error
        self._stand_by(context, grant, delay)
        lease = grant.lease(clients)
        acquired = lease.acquire() or self._wait(lease, grant)
        try:
            self._check_wanted()
            if acquired:
                _check_running(context)
            holder = lease.holder()
            context["ti"].xcom_push(key="holder", value=_as_xcom(grant.key, holder, lease))
            if not acquired:
                refuse(lease, holder, grant, hint=hint_of_parent(context, holder, grant))
        except BaseException as error:
            if acquired:  # A setup that fails has no teardown.
                lease.release()
            if isinstance(error, AirflowSkipException):
                # Airflow logs a skip inside a group that its log view folds.
                logger.warning("This run is skipped, no task of it works: %s", error)
            raise
        logger.info("lock acquired: key=%s owner=%s lease=%ss", grant.key, grant.owner, grant.ttl)
        if is_tasks_test():
            lease.release()
            logger.warning("The lock was free; it is released again, because this is `airflow tasks test`")
        return grant.to_xcom()

    def on_kill(self) -> None:
        """Stop waiting; a lock that is acquired at this moment is released again."""
        self._stopped = True

    def _check_wanted(self) -> None:
        if self._stopped:
            raise AirflowFailException("this task was stopped")

    def _stand_by(self, context: Context, grant: Grant, delay: timedelta) -> None:
        """Let another Airflow do this scheduled time until the delay of a standby is over."""
        until = context["dag_run"].run_after + delay
        left = (until - datetime.now(UTC)).total_seconds()
        if not delay or not grant.tick or left <= 0:
            return
        logger.info("This Airflow is a standby: the run waits for another one, until=%s", until.isoformat())
        if left > LONGEST_POLLING:
            from airflow.providers.standard.triggers.temporal import DateTimeTrigger

            self.defer(trigger=DateTimeTrigger(moment=until), method_name="execute")
        while datetime.now(UTC) < until:
            self._check_wanted()
            time.sleep(POLL[1])

    def _wait(self, lease: Lease, grant: Grant) -> bool:
        """Wait in the queue until the deadline; return whether the lock was acquired.

        A free lock is never refused. If it is free at the deadline and other waiters are first, wait until
        one of them has it, and acquire it ahead of them if none of them does.
        """
        from iam_watcher.lock.trigger import RedisLockTrigger

        wait = self.lock.wait.total_seconds()
        if lease.verdict not in MAY_COME or (not wait and _is_held(lease)):
            lease.unqueue()  # It may be in the queue since before a deferral.
            return False
        deadline = lease.queue(time.time() + wait)
        try:
            if wait > LONGEST_POLLING and time.time() < deadline:
                logger.info("This run waits for the lock: key=%s", fact(grant.key))
                logger.info("%s", lease.holder() or "other runs are first in the queue")
                self.defer(
                    trigger=RedisLockTrigger(
                        key=grant.key,
                        owner=grant.owner,
                        redis_conn_ids=grant.redis_conn_ids,
                        deadline=deadline,
                    ),
                    method_name="execute",
                )
            ahead = False
            while not lease.acquire(ahead=ahead):
                self._check_wanted()
                pause = random.uniform(*POLL)  # noqa: S311  jitter, not a secret
                over = time.time() + pause > deadline
                if lease.verdict not in MAY_COME or ahead or (over and _is_held(lease)):
                    lease.unqueue()
                    return False
                ahead = time.time() > deadline + OTHERS_COME_WITHIN
                time.sleep(pause)
                lease.queue(deadline)  # The heartbeat; if Redis lost its keys, it gets the position again.
        except TaskDeferred:
            raise
        except BaseException:
            lease.unqueue()
            raise
        return True


def _is_held(lease: Lease) -> bool:
    """Return whether another owner still holds the lock that `acquire` found busy."""
    return lease.verdict is Verdict.BUSY and lease.holder() is not None


def _check_running(context: Context) -> None:
    """Raise AirflowFailException if a person has ended this task meanwhile.

    This process learns of that at its next heartbeat only, and no teardown would release the lock.
    """
    ti = context["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id])
    state = states.get(ti.run_id, {}).get(ti.task_id)
    if state != "running":
        raise AirflowFailException(f"this task is {state!r} now; expected 'running'")


def _as_xcom(key: str, holder: Holder | None, lease: Lease) -> dict[str, Any] | None:
    if lease.verdict is Verdict.DONE and (owner := lease.tick_done_by()):
        deployment = owner.partition("/")[0]
        return {"key": key, "owner": owner, "deployment": deployment, "since": None, "done": True}
    if holder is None:
        return None
    return {
        "key": holder.key,
        "owner": holder.owner,
        "deployment": holder.deployment,
        "since": holder.since and holder.since.isoformat(timespec="milliseconds"),
    }
