"""Reads watchers, runs and reports from Airflow's database: one query for each question.

All queries share the columns of a run, so they are in one file: hence the length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, or_, select, union
from sqlalchemy.orm import aliased
from sqlalchemy.sql.expression import case, null

from iam_watcher.airflow_internals.page import (
    DagModel,
    DagRun,
    DagTag,
    DagVersion,
    SerializedDagModel,
    TaskInstance,
    XComModel,
)
from iam_watcher.lock import ACQUIRE_TASK_ID, RELEASE_TASK_ID
from iam_watcher.ui.runs import MEASURES, Run
from iam_watcher.watcher_dag import TAG

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.orm import Session

BARS = 30  # runs of a watcher that the list shows
WHOLE = 2  # runs of a watcher whose reports the list has, newest first
MOST_CHANGES = 1_000  # new runs of one answer
UNFINISHED = ("queued", "running")
RETURN_VALUE = "return_value"
HOLDER = "holder"


def watchers(session: Session, permitted: Collection[str], dag_id: str | None = None) -> Sequence[Row[Any]]:
    """Return the watchers that are among the DAGs `permitted`, by name.

    Args:
        session: of Airflow's database.
        permitted: dag ids.
        dag_id: only this one.
    """
    # By the versions, which have an index: `serialized_dag` would be read whole for each watcher.
    newest = (
        select(DagVersion.id)
        .where(DagVersion.dag_id == DagModel.dag_id)
        .order_by(DagVersion.version_number.desc())
        .limit(1)
        .correlate(DagModel)
        .scalar_subquery()
    )
    found = (
        select(
            DagModel.dag_id,
            DagModel._dag_display_property_value.label("display_name"),  # noqa: SLF001  the column behind a hybrid
            DagModel.is_paused,
            DagModel.has_import_errors,
            DagModel.timetable_description,
            DagModel.timetable_summary,
            DagModel.next_dagrun_create_after,
            DagModel.description,
            SerializedDagModel.id.label("stored"),
            SerializedDagModel.dag_hash,
        )
        .join(DagTag, and_(DagTag.dag_id == DagModel.dag_id, DagTag.name == TAG))
        .outerjoin(SerializedDagModel, SerializedDagModel.dag_version_id == newest)
        .where(~DagModel.is_stale)
        .order_by(DagModel.dag_id)
    )
    if dag_id is not None:
        found = found.where(DagModel.dag_id == dag_id)
    rows: Any = session.execute(found)
    return [row for row in rows if row.dag_id in permitted]


def history(session: Session, dag_ids: Collection[str], *, reports: bool) -> dict[str, list[Run]]:
    """Return dag_id -> its last runs, newest first; the last WHOLE of them with their reports.

    Args:
        session: of Airflow's database.
        dag_ids: the watchers.
        reports: read what the runs returned, which needs the right to XComs.
    """
    order = func.row_number().over(
        partition_by=DagRun.dag_id, order_by=(DagRun.run_after.desc(), DagRun.id.desc())
    )
    ranked = select(DagRun.id, order.label("n")).where(DagRun.dag_id.in_(dag_ids)).subquery()
    whole = ranked.c.n <= WHOLE
    found = (
        _select_runs(whole, reports=reports).join(ranked, ranked.c.id == DagRun.id).where(ranked.c.n <= BARS)
    )
    return _by_dag(session.execute(_with_details(found, whole, reports=reports)))


def changes(
    session: Session, dag_ids: Collection[str], *, after: int, unfinished: Collection[int], reports: bool
) -> dict[str, list[Run]]:
    """Return dag_id -> its runs that are new, unfinished, or were unfinished when the page asked before.

    Args:
        session: of Airflow's database.
        dag_ids: the watchers.
        after: the largest id of a run that the page knows.
        unfinished: ids of the runs that were unfinished then.
        reports: as in `history`.
    """
    # Each condition by itself, so that each can go by an index of Airflow's.
    newest = select(func.max(DagRun.id) - MOST_CHANGES).scalar_subquery()
    some = union(
        select(DagRun.id).where(DagRun.id > after, DagRun.id > newest),
        select(DagRun.id).where(DagRun.id.in_(unfinished)),
        *(select(DagRun.id).where(DagRun.state == state) for state in UNFINISHED),
    ).subquery()
    found = _select_runs(None, reports=reports).where(DagRun.id.in_(select(some.c.id)))
    runs = _by_dag(session.execute(_with_details(found, None, reports=reports)))
    return {dag_id: ours for dag_id, ours in runs.items() if dag_id in dag_ids}


def runs_before(
    session: Session,
    dag_id: str,
    *,
    before: datetime | None,
    limit: int,
    reports: bool,
    of: str | None = None,
) -> list[Run]:
    """Return some runs of a watcher, newest first, with their reports.

    Args:
        session: of Airflow's database.
        dag_id: the watcher.
        before: only runs for an earlier moment.
        limit: how many.
        reports: as in `history`.
        of: of the DAG that does dry runs, only those of this watcher.
    """
    which = select(DagRun.id).where(DagRun.dag_id == dag_id)
    if of is not None:
        which = which.where(DagRun.conf["watcher"].as_string() == of)
    if before is not None:
        which = which.where(DagRun.run_after < before)
    some = which.order_by(DagRun.run_after.desc(), DagRun.id.desc()).limit(limit).subquery()
    found = _select_runs(None, reports=reports).where(DagRun.id.in_(select(some.c.id)))
    return _by_dag(session.execute(_with_details(found, None, reports=reports))).get(dag_id, [])


def report_of(session: Session, dag_id: str, run_id: str, task_id: str) -> Any:
    """Return what a task of a run returned, or None."""
    return session.scalar(
        select(XComModel.value).where(
            XComModel.dag_id == dag_id,
            XComModel.run_id == run_id,
            XComModel.task_id == task_id,
            XComModel.map_index == -1,
            XComModel.key == RETURN_VALUE,
        )
    )


def _select_runs(whole: ColumnElement[bool] | None, *, reports: bool) -> Any:
    """Return the columns of runs. Of those that are not `whole`, only the numbers of their reports."""
    failed = (
        select(func.min(TaskInstance.task_id))
        .where(
            TaskInstance.dag_id == DagRun.dag_id,
            TaskInstance.run_id == DagRun.run_id,
            TaskInstance.state == "failed",
        )
        .correlate(DagRun)
        .scalar_subquery()
    )
    # Looked for only there: Airflow's index of tasks does not begin with the run.
    has_failed = DagRun.state == "failed" if whole is None else and_(whole, DagRun.state == "failed")
    columns: list[Any] = [
        DagRun.id,
        DagRun.dag_id,
        DagRun.run_id,
        DagRun.run_type,
        DagRun.state,
        DagRun.run_after,
        DagRun.start_date,
        DagRun.end_date,
        DagRun.triggering_user_name,
        case((has_failed, failed), else_=None).label("failed"),
    ]
    if not reports:
        return select(*columns)
    value = XComModel.value if whole is None else case((whole, XComModel.value), else_=null())
    columns += [
        XComModel.task_id.label("task_id"),
        XComModel.map_index.label("map_index"),
        XComModel.key.label("key"),
        value.label("value"),
        *(XComModel.value[name].as_string().label(name) for name in MEASURES),
    ]
    return select(*columns)


def _with_details(found: Any, whole: ColumnElement[bool] | None, *, reports: bool) -> Any:
    """Add what `acquire` came to, and the reports, to a query of runs."""
    acquire = aliased(TaskInstance)
    found = found.add_columns(acquire.state.label("acquire")).outerjoin(
        acquire,
        and_(
            acquire.dag_id == DagRun.dag_id,
            acquire.run_id == DagRun.run_id,
            acquire.task_id == ACQUIRE_TASK_ID,
            acquire.map_index == -1,
        ),
    )
    if not reports:
        return found
    of_work = and_(
        XComModel.key == RETURN_VALUE, XComModel.task_id.not_in((ACQUIRE_TASK_ID, RELEASE_TASK_ID))
    )
    of_acquire = and_(XComModel.key == HOLDER, XComModel.task_id == ACQUIRE_TASK_ID)
    if whole is not None:
        of_acquire = and_(whole, of_acquire)
    return found.outerjoin(XComModel, and_(XComModel.dag_run_id == DagRun.id, or_(of_work, of_acquire)))


def _by_dag(rows: Iterable[Row[Any]]) -> dict[str, list[Run]]:
    """Put the rows of each run together, the newest run of a watcher first."""
    runs: dict[int, Run] = {}
    for row in rows:
        run = runs.get(row.id)
        if run is None:
            run = runs[row.id] = Run(
                number=row.id,
                dag_id=row.dag_id,
                run_id=row.run_id,
                kind=row.run_type,
                state=row.state or "queued",
                acquire=row.acquire,
                run_after=row.run_after,
                start=row.start_date,
                end=row.end_date,
                user=row.triggering_user_name,
                failed_task=row.failed,
            )
        if getattr(row, "key", None) == HOLDER:
            run.holder = row.value
        elif getattr(row, "key", None) == RETURN_VALUE:
            run.take(row.task_id, row.map_index, row.value, {name: getattr(row, name) for name in MEASURES})
    found: dict[str, list[Run]] = {}
    for run in sorted(runs.values(), key=lambda run: (run.run_after, run.number), reverse=True):
        found.setdefault(run.dag_id, []).append(run)
    return found
