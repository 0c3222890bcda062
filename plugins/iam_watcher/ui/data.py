"""Reads watchers, runs and reports from Airflow's database: one query for a question, or two.

All queries share the columns of a run, so they are in one file: hence the length.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, func, null, or_, select, true, union, union_all
from sqlalchemy.orm import aliased, join

from iam_watcher.airflow_internals.page import (
    DISPLAY_NAME,
    DagModel,
    DagRun,
    DagRunType,
    DagTag,
    DagVersion,
    ParseImportError,
    SerializedDagModel,
    TaskInstance,
    XComModel,
)
from iam_watcher.lock import ACQUIRE_TASK_ID, RELEASE_TASK_ID
from iam_watcher.ui.reports import WRITTEN, WRITTEN_BEFORE
from iam_watcher.ui.runs import UNFINISHED, Run, shown_whole
from iam_watcher.watcher_dag import TAG

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.orm import Session

BARS = 30  # runs of a watcher that the list shows
WHOLE = 2  # runs of a watcher whose reports the list has, newest first
MOST_CHANGES = 1_000  # new runs of one answer
COUNTED = ("failed", "skipped")  # outcomes of runs
RETURN_VALUE = "return_value"
HOLDER = "holder"
# Airflow writes the watchers of a file within this time, and parses the file again only later.
ONE_PARSE = timedelta(seconds=15)


def watchers(
    session: Session,
    permitted: Collection[str] | None,
    dag_id: str | None = None,
    *,
    since: datetime | None = None,
) -> Sequence[Row[Any]]:
    """Return the watchers that are among the DAGs `permitted`, by name.

    Args:
        session: of Airflow's database.
        permitted: dag ids; None for all.
        dag_id: only this one.
        since: also count the runs `failed` and `skipped` that were for a later moment.
    """
    # Airflow calls the DAGs of a file that it can't load stale, as those of a file that is gone.
    any_dag = aliased(DagModel)
    broken = (
        select(
            ParseImportError.bundle_name,
            ParseImportError.filename,
            func.max(any_dag.last_parsed_time).label("parsed"),
        )
        .join(
            any_dag,
            and_(
                any_dag.bundle_name == ParseImportError.bundle_name,
                any_dag.relative_fileloc == ParseImportError.filename,
            ),
        )
        .group_by(ParseImportError.bundle_name, ParseImportError.filename)
        .subquery()
    )
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
            DISPLAY_NAME.label("display_name"),
            DagModel.is_paused,
            or_(DagModel.is_stale, DagModel.has_import_errors.is_(True)).label("is_broken"),
            DagModel.timetable_description,
            DagModel.timetable_summary,
            DagModel.next_dagrun_create_after,
            DagModel.description,
            SerializedDagModel.id.label("stored"),
            SerializedDagModel.dag_hash,
            DagModel.last_parsed_time,
            broken.c.parsed.label("file_parsed"),
        )
        .join(DagTag, and_(DagTag.dag_id == DagModel.dag_id, DagTag.name == TAG))
        .outerjoin(SerializedDagModel, SerializedDagModel.dag_version_id == newest)
        .outerjoin(
            broken,
            and_(
                broken.c.bundle_name == DagModel.bundle_name, broken.c.filename == DagModel.relative_fileloc
            ),
        )
        .where(or_(~DagModel.is_stale, broken.c.filename.is_not(None)))
        .order_by(DagModel.dag_id)
    )
    if dag_id is not None:
        found = found.where(DagModel.dag_id == dag_id)
    if since is not None:
        ended = _counted_since(since)
        found = found.add_columns(
            *(func.coalesce(ended.c[name], 0).label(name) for name in COUNTED)
        ).outerjoin(ended, ended.c.dag_id == DagModel.dag_id)
    rows: Any = session.execute(found)
    return [row for row in rows if (permitted is None or row.dag_id in permitted) and not _was_removed(row)]


def history(session: Session, dag_ids: Collection[str], *, reports: bool) -> dict[str, list[Run]]:
    """Return dag_id -> its last runs, newest first; with their reports those that the list shows whole.

    Args:
        session: of Airflow's database.
        dag_ids: the watchers.
        reports: read what the runs returned, which needs the right to XComs.
    """
    order = func.row_number().over(
        partition_by=DagRun.dag_id, order_by=(DagRun.run_after.desc(), DagRun.id.desc())
    )
    ranked = select(DagRun.id, order.label("n")).where(DagRun.id.in_(_newest(dag_ids))).subquery()
    # The limit changes nothing: it tells PostgreSQL that the rows are few, so that it joins them by indexes.
    last = select(ranked).where(ranked.c.n <= BARS).limit(BARS * len(dag_ids)).subquery()
    found = _by_dag(_rows(session, _select_runs(last, reports=reports)))
    # A failure before the last WHOLE runs: later runs were skipped, or dry runs.
    failed = [run for runs in found.values() for run in shown_whole(runs) if run not in runs[:WHOLE]]
    numbers = [run.number for run in failed if run.state == "failed"]
    if not numbers:
        return found
    again = _select_runs(None, reports=reports).where(DagRun.id.in_(numbers))
    read = {run.number: run for runs in _by_dag(_rows(session, again)).values() for run in runs}
    return {dag_id: [read.get(run.number, run) for run in runs] for dag_id, runs in found.items()}


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
    some = union(
        select(DagRun.id).where(DagRun.id > after, DagRun.id > _before_changes()),
        select(DagRun.id).where(DagRun.id.in_(unfinished)),
        *(select(DagRun.id).where(DagRun.state == state) for state in UNFINISHED),
    ).subquery()
    found = _select_runs(None, reports=reports).where(DagRun.id.in_(select(some.c.id)))
    runs = _by_dag(_rows(session, found))
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
    return _by_dag(_rows(session, found)).get(dag_id, [])


def report_of(session: Session, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
    """Return what a task of a run returned, or None; `map_index` is -1 for a task that is not mapped."""
    return session.scalar(
        select(XComModel.value).where(
            XComModel.dag_id == dag_id,
            XComModel.run_id == run_id,
            XComModel.task_id == task_id,
            XComModel.map_index == map_index,
            XComModel.key == RETURN_VALUE,
        )
    )


def _was_removed(row: Any) -> bool:
    """Return whether a watcher was no longer in its file when Airflow could load the file last."""
    parsed, newest = row.last_parsed_time, row.file_parsed
    return parsed is not None and newest is not None and parsed + ONE_PARSE < newest


def _counted_since(since: datetime) -> Any:
    """Return a subquery: dag_id, and how many of the watcher's runs failed and were skipped."""
    acquire = aliased(TaskInstance)
    skipped = and_(DagRun.state == "success", acquire.state == "skipped")
    return (
        select(
            DagRun.dag_id,
            *(
                func.sum(case((condition, 1), else_=0)).label(name)
                for name, condition in zip(COUNTED, (DagRun.state == "failed", skipped), strict=True)
            ),
        )
        .join(DagTag, and_(DagTag.dag_id == DagRun.dag_id, DagTag.name == TAG))
        .outerjoin(acquire, _is_acquire_of_run(acquire))
        .where(DagRun.run_after > since)
        .group_by(DagRun.dag_id)
        .subquery()
    )


def _newest(dag_ids: Collection[str]) -> Any:
    """Return a query of runs: the last BARS of each watcher are among them, however long its past is.

    Airflow has no index on the runs of a DAG by time, but one on their names. The name that Airflow gives to
    a run is its kind and its time. Other names are few: all runs that have them are among the result.
    """
    shown = select(DagModel.dag_id).where(DagModel.dag_id.in_(dag_ids)).cte("shown")
    of_shown = DagRun.dag_id == shown.c.dag_id
    # Digits compare alike in every collation, hence the years.
    given = sorted((f"{kind.value}__1", f"{kind.value}__3") for kind in DagRunType)
    bounds = [None, *(bound for names in given for bound in names), None]
    others = zip(bounds[::2], bounds[1::2], strict=True)
    return union_all(
        *(_newest_between(shown, low, high) for low, high in given),
        *(
            select(DagRun.id).join(
                shown,
                and_(
                    of_shown,
                    *([DagRun.run_id >= low] if low else []),
                    *([DagRun.run_id < high] if high else []),
                ),
            )
            for low, high in others
        ),
        # A run whose name has an old time, because a person gave it.
        select(DagRun.id).join(shown, of_shown).where(DagRun.id > _before_changes()),
    )


def _newest_between(shown: Any, low: str, high: str) -> Any:
    """Return a query of the last BARS runs of each watcher shown whose names are between two texts."""
    first = (
        select(DagRun.run_id)
        .where(DagRun.dag_id == shown.c.dag_id, DagRun.run_id >= low, DagRun.run_id < high)
        .order_by(DagRun.run_id.desc())
        .limit(1)
        .offset(BARS - 1)
        .correlate(shown)
        .scalar_subquery()
    )
    firsts = select(shown.c.dag_id, func.coalesce(first, low).label("run_id")).subquery()
    return select(DagRun.id).join(
        firsts,
        and_(DagRun.dag_id == firsts.c.dag_id, DagRun.run_id >= firsts.c.run_id, DagRun.run_id < high),
    )


def _before_changes() -> Any:
    """Return the number of a run: only MOST_CHANGES runs are newer."""
    return select(func.max(DagRun.id) - MOST_CHANGES).scalar_subquery()


def _is_acquire_of_run(acquire: Any) -> ColumnElement[bool]:
    return and_(
        acquire.dag_id == DagRun.dag_id,
        acquire.run_id == DagRun.run_id,
        acquire.task_id == ACQUIRE_TASK_ID,
        acquire.map_index == -1,
    )


def _select_runs(last: Any, *, reports: bool) -> Any:
    """Return the columns of runs, in the order of `_by_dag`.

    Args:
        last: a subquery of the runs, with their ranks `n`: of those after WHOLE, three facts of the reports
            are read, and whether another deployment did their scheduled time. None: all runs, and whole
            reports.
        reports: read what the runs returned.
    """
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
    worked = (
        select(func.count())
        .where(
            TaskInstance.dag_id == DagRun.dag_id,
            TaskInstance.run_id == DagRun.run_id,
            TaskInstance.state == "success",
            TaskInstance.task_id.not_in((ACQUIRE_TASK_ID, RELEASE_TASK_ID)),
        )
        .correlate(DagRun)
        .scalar_subquery()
    )
    whole = true() if last is None else last.c.n <= WHOLE
    # Looked for only there: Airflow's index of tasks does not begin with the run.
    has_failed = and_(whole, DagRun.state == "failed")
    has_succeeded = and_(whole, DagRun.state == "success")
    acquire = aliased(TaskInstance)
    found = select(
        DagRun.id,
        DagRun.dag_id,
        DagRun.run_id,
        DagRun.run_type,
        DagRun.state,
        DagRun.run_after,
        DagRun.start_date,
        DagRun.end_date,
        DagRun.triggering_user_name,
        case((has_failed, failed), else_=None),
        case((has_succeeded, worked), else_=None),
        acquire.state,
    ).select_from(DagRun if last is None else join(last, DagRun, last.c.id == DagRun.id))
    found = found.outerjoin(acquire, _is_acquire_of_run(acquire))
    if not reports:
        return found
    of_work = and_(
        XComModel.key == RETURN_VALUE, XComModel.task_id.not_in((ACQUIRE_TASK_ID, RELEASE_TASK_ID))
    )
    of_acquire = and_(XComModel.key == HOLDER, XComModel.task_id == ACQUIRE_TASK_ID)
    return found.add_columns(
        XComModel.task_id,
        XComModel.map_index,
        XComModel.key,
        XComModel.value if last is None else case((whole, XComModel.value), else_=null()),
        # One value of several: each access reads the whole JSON text again. Of the holder, it is `done`.
        func.coalesce(*(XComModel.value[name].as_string() for name in WRITTEN)),
        XComModel.value[WRITTEN_BEFORE].as_string(),
        XComModel.value["dry_run"].as_string(),
    ).outerjoin(XComModel, and_(XComModel.dag_run_id == DagRun.id, or_(of_work, of_acquire)))


def _rows(session: Session, query: Any) -> Iterable[Any]:
    """Return the rows of a query of columns, without what the session does for objects."""
    return session.connection().execute(query)


def _by_dag(rows: Iterable[Any]) -> dict[str, list[Run]]:
    """Put the rows of each run together, the newest run of a watcher first."""
    runs: dict[int, Run] = {}
    # Unpacked: there are thousands of rows, and each access to a row by name is a look-up.
    for (
        number,
        dag_id,
        run_id,
        kind,
        state,
        run_after,
        start,
        end,
        user,
        failed,
        worked,
        acquire,
        *report,
    ) in rows:
        run = runs.get(number)
        if run is None:
            run = runs[number] = Run(
                number,
                dag_id,
                run_id,
                kind,
                state or "queued",
                acquire,
                run_after,
                start,
                end,
                user,
                failed,
                worked,
            )
        if not report:
            continue
        task_id, map_index, key, value, written, before, dry_run = report
        if key == HOLDER:
            run.take_holder(value, done=written)
        elif key == RETURN_VALUE:
            run.take(task_id, map_index, value, written=written, before=before, dry_run=dry_run)
    found: dict[str, list[Run]] = {}
    for run in sorted(runs.values(), key=lambda run: (run.run_after, run.number), reverse=True):
        found.setdefault(run.dag_id, []).append(run)
    return found
