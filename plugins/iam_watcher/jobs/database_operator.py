"""What each operator on a database does: connect, take the database lock, stop, and fail.

All of it belongs to one run of a task: hence the length.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from iam_watcher import arguments, run_conf
from iam_watcher.database.throttle import Throttle, ThrottleCheck, Throttler
from iam_watcher.errors import (
    ArchiveDamaged,
    ClockError,
    ConnectionRefused,
    HalfDone,
    JobArgumentError,
    JobError,
    LockError,
    LockUnavailable,
    RowsFailing,
    RunConfError,
    SafetyLimitError,
    TableError,
)
from iam_watcher.job_tasks import DRY_RUN_FIELD, MYSQL_CONN_ID
from iam_watcher.jobs.execution_timeout import ExecutionTimeout
from iam_watcher.log_lines import get_logger
from iam_watcher.notices import metrics
from iam_watcher.walk.pace import Pace, pace_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.sdk import Context

    from iam_watcher.database.connection import Connection
    from iam_watcher.database.database_lock import DatabaseLock
    from iam_watcher.database.transactions import Transactions

logger = get_logger(__name__)

PERMANENT = (
    ArchiveDamaged,
    JobArgumentError,
    RunConfError,
    ConnectionRefused,
    TableError,
    RowsFailing,
    ClockError,
    SafetyLimitError,
    LockError,
    HalfDone,
)
"""Errors that end the task at once: a retry would meet them again, or another run has the lock by now.

After `HalfDone` a retry would skip the row and be green.
"""

YES = {"true", "yes", "on", "1"}  # what a param says that asks for a dry run
REPLICA_ANSWERS_WITHIN = 1  # seconds
NO_THROTTLE = Throttle()


class DatabaseOperator(BaseOperator):
    """Works on a database in short transactions, and can be stopped between two of them.

    :param mysql_conn_id: id of the Airflow connection of the database. Default: "iam_mysql".
    :param pace: "fast" (transactions of 0.1 s), "polite" (transactions of 25 ms, each with a pause of the
        same length) or a `Pace`.
    :param throttle: a `Throttle`: when the job waits because the server is busy.
    :param dry_run: count the rows and say what the real run would do, but write nothing to the database.
        (templated)
    """

    template_fields: Sequence[str] = (DRY_RUN_FIELD,)

    has_safe_points = True
    """The task stops by itself at its next safe point when its lease is lost."""

    def __init__(
        self,
        *,
        mysql_conn_id: str = MYSQL_CONN_ID,
        pace: str | Pace = "fast",
        throttle: Throttle = NO_THROTTLE,
        dry_run: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mysql_conn_id = mysql_conn_id
        self.pace = pace
        self.throttle = throttle
        self.is_dry_run = dry_run  # `dry_run` is a method of every operator
        arguments.connection_id("mysql_conn_id", mysql_conn_id)
        pace_of(pace)
        arguments.instance("throttle", throttle, Throttle, "a Throttle(...)")
        arguments.check_literal(arguments.flag, "dry_run", dry_run)
        self._stopping = False
        self._timeout = ExecutionTimeout()

    @classmethod
    def get_serialized_fields(cls) -> frozenset[str]:
        """Return what Airflow stores of the task: also its connection, which the health address asks."""
        fields: frozenset[str] = super().get_serialized_fields()  # type: ignore[no-untyped-call]
        return fields | {"mysql_conn_id"}

    @abstractmethod
    def perform(self, context: Context) -> dict[str, Any]:
        """Do the work and return the run report."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Do the work. Fail without a retry if a retry can't help."""
        try:
            report = self._performed(context)
        except AirflowSkipException as skip:
            # Airflow logs a skip inside a group that its log view folds.
            logger.warning("Nothing was changed: %s", skip)
            raise
        metrics.worked(context["ti"], report)
        if report.get(run_conf.DRY_RUN):
            # For `release`: with do_xcom_push=False there is no report.
            context["ti"].xcom_push(key=run_conf.DRY_RUN, value=True)
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra = report
        return report

    def _performed(self, context: Context) -> dict[str, Any]:
        try:
            self._check_conf(context)
            with self._timeout.deferrable():
                return self.perform(context)
        except LockUnavailable:
            raise  # Redis may be back at the next try.
        except PERMANENT as error:
            raise AirflowFailException(str(error)) from error

    def _check_conf(self, context: Context) -> None:
        """Refuse a conf that would be ignored or misread, in any DAG; a Watcher refuses more.

        Raises:
            RunConfError: see `run_conf.check_slips`; or a param says that this is a dry run, and it is none.
        """
        run: Any = context.get("dag_run")
        if run is None:
            return
        dag: Any = context["dag"]
        params = context["params"]
        # Not the names in `params`: Airflow puts each key of the conf there.
        names = {*dag.params, *context["task"].params}
        allowed = getattr(dag, "conf_keys", ())
        run_conf.check_slips(run.conf, names=names, values=params, allowed=allowed)
        is_dry_run = arguments.flag(run_conf.DRY_RUN, self.is_dry_run)
        for name in run_conf.named_dry_run(names):
            # A param without a type may also have the text "true".
            if str(params[name]).strip().lower() in YES and not is_dry_run:
                raise RunConfError(
                    f"the param {name} is set, but the task {self.task_id!r} does not ask for it; give the "
                    f'task {run_conf.DRY_RUN}="{{{{ params.{name} }}}}"'
                )

    def on_kill(self) -> None:
        """Stop before the next transaction."""
        self._stopping = True

    @contextmanager
    def transactions(self, *, locked: bool) -> Iterator[tuple[Connection, Transactions]]:
        """Connect, take the database lock if `locked`, and yield the connection and its transactions."""
        from iam_watcher.database.transactions import Transactions

        database_lock = self._database_lock() if locked else None
        connection = connect(self.mysql_conn_id, database_lock)
        reconnect = partial(self._reconnect, database_lock)
        with closing(
            Transactions(
                connection, self._safe_point, committing=self._timeout.committing, reconnect=reconnect
            )
        ) as db:
            yield connection, db

    @contextmanager
    def throttling(self, db: Transactions, table: str) -> Iterator[Throttler]:
        """Connect to the replicas that the throttle names; yield what waits while the server is busy."""
        with closing(ThrottleCheck(self.throttle, db, connect_to_replica)) as why:
            yield Throttler(db, table, why, patience=self.throttle.patience.total_seconds())

    @property
    def paced(self) -> Pace:
        """How hard to work."""
        return pace_of(self.pace)

    def _safe_point(self) -> None:
        from iam_watcher.lock import current

        self._timeout.counted()
        if self._stopping:
            raise JobError(
                f"{self.task_id} was stopped by Airflow; the rows that were committed until then stay changed"
            )
        current.safe_point()

    def _database_lock(self) -> DatabaseLock | None:
        from iam_watcher.database.database_lock import DatabaseLock
        from iam_watcher.lock import current

        grant = current.grant()
        if grant is None or not grant.database_lock:
            return None
        return DatabaseLock(
            grant.key,
            lease=grant.ttl,
            verify=self._verify,
            others_at_work=lambda: current.others_at_work(self._safe_point),
        )

    def _verify(self) -> None:
        from iam_watcher.lock import current

        self._safe_point()
        current.verify(self._safe_point)

    def _reconnect(self, database_lock: DatabaseLock | None) -> Connection:
        """Connect again after the session was lost: another run may have the lock by now."""
        self._verify()
        return connect(self.mysql_conn_id, database_lock)


def connect(
    conn_id: str, database_lock: DatabaseLock | None = None, *, answer_within: int | None = None
) -> Connection:
    """Return a new connection that is set up for a job, with the database lock taken.

    Args:
        conn_id: the Airflow connection.
        database_lock: to take.
        answer_within: seconds to wait for a connection and for each answer, if not as usual.
    """
    from iam_watcher.database.hook import connect as connect_by_hook

    connection = connect_by_hook(conn_id, answer_within=answer_within)
    if database_lock is not None:
        try:
            database_lock.take(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def connect_to_replica(conn_id: str) -> Connection:
    """Return a connection to a replica that answers in a second or counts as behind: the work waits."""
    return connect(conn_id, answer_within=REPLICA_ANSWERS_WITHIN)
