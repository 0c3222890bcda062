"""The page's own routes below /iam-watcher, and who may use each.

Every route here asks Airflow for authorisation, the files of the page included; a test goes through all of
them. The one that is open to all is in iam_watcher.health.
To trigger a run or to pause a watcher, the browser calls Airflow's own API. All routes that only read
are here, so that a reviewer of rights reads one file: hence the length.
"""

# ruff: noqa: TID253  only the API server imports this
from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response

from iam_watcher.airflow_internals.page import DagAccessEntity, GetUserDep, SessionDep, get_user
from iam_watcher.archive.location import configured_location
from iam_watcher.errors import DeploymentIdError, IamWatcherError
from iam_watcher.lock.admin import inspection
from iam_watcher.lock.deployment import deployment_id
from iam_watcher.ui import data, people, rows
from iam_watcher.ui.access import (
    READ_RUNS,
    READ_XCOMS,
    all_watchers,
    answer,
    find_watcher,
    listed_watchers,
    may,
    may_read_xcoms,
    permitted_dags,
)
from iam_watcher.ui.actions import actions, dry_run_dag
from iam_watcher.ui.locks import Servers, waiting_json
from iam_watcher.ui.reports import without_none
from iam_watcher.ui.ticks import schedule_json

if TYPE_CHECKING:
    from iam_watcher.lock.facts import LockFacts

PAGE = Path(__file__).parent / "page"
TYPES = {".js": "text/javascript", ".svg": "image/svg+xml"}
AT_ONCE = 200  # watchers in one answer
TOTALS_OF = timedelta(hours=24)  # in the lead of the list
MOST_UNFINISHED = 500
# What undoes a run: operator -> the kind of record that it takes, and the argument that names one.
UNDO = {"ReenableUsersOperator": ("undo", "undo_record"), "RestoreRowsOperator": ("archive", "path")}

app = FastAPI(title="iam-watcher", docs_url=None, redoc_url=None, openapi_url=None)
app.include_router(actions)
servers = Servers()


@app.get("/page/{name}", dependencies=[Depends(get_user)])
def page_file(name: str, request: Request) -> Response:
    """Return a file of the page. It says nothing about watchers."""
    files = _files()
    if name not in files:
        raise HTTPException(404, f"the page has no file {name!r}")
    content, media_type, tag = files[name]
    headers = {"ETag": tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


@app.get("/watchers", dependencies=[READ_RUNS])
def list_watchers(
    user: GetUserDep, session: SessionDep, begin: Annotated[int, Query(alias="from", ge=0)] = 0
) -> Response:
    """Return up to AT_ONCE watchers with their last runs and their locks."""
    since = datetime.now(UTC) - TOTALS_OF
    every, all_facts = listed_watchers(user, session, since=since)
    shown = every[begin : begin + AT_ONCE]
    facts = {row.dag_id: all_facts[row.dag_id] for row in shown}
    editable = permitted_dags(user, session, "PUT")
    runs = data.history(session, [row.dag_id for row in shown], reports=may_read_xcoms(user))
    session.close()  # not held while Redis is asked
    locks = servers.look(rows.wanted_locks(facts, runs))
    return answer(
        {
            "now": _now(),
            "total": len(every),
            "deployment": _deployment(),
            "may": {"run": may(user, None, "POST", DagAccessEntity.RUN)},
            "digest": rows.digest(every),
            "watchers": [
                rows.watcher_json(row, facts[row.dag_id])
                | ({"edit": True} if row.dag_id in editable else {})
                | rows.runs_json(runs.get(row.dag_id, []))
                | rows.earlier_json(row, runs.get(row.dag_id, []), since)
                | rows.lock_of(facts[row.dag_id], runs.get(row.dag_id, []), locks)
                for row in shown
            ],
        }
    )


@app.get("/changes", dependencies=[READ_RUNS])
def changes(
    user: GetUserDep,
    session: SessionDep,
    after: Annotated[int, Query(ge=0)],
    digest: int = 0,
    unfinished: Annotated[str, Query(pattern=r"^[0-9,]{0,6000}$")] = "",
) -> Response:
    """Return what changed since the page asked before: runs, and locks that are not free.

    Args:
        user: who asks.
        session: of Airflow's database.
        after: the largest number of a run that the page knows.
        digest: of which watchers are paused and what comes next, as the page got it.
        unfinished: numbers of runs that the page shows as unfinished.
    """
    every, facts = listed_watchers(user, session)
    numbers = [int(number) for number in unfinished.split(",") if number][:MOST_UNFINISHED]
    runs = data.changes(session, facts.keys(), after=after, unfinished=numbers, reports=may_read_xcoms(user))
    session.close()
    locks = servers.look(rows.wanted_locks(facts, runs))
    now_digest = rows.digest(every)
    return answer(
        without_none(
            {
                "now": _now(),
                "digest": now_digest,
                "next": None if digest == now_digest else [rows.next_json(row) for row in every],
                "runs": {dag_id: [run.as_json() for run in found] for dag_id, found in runs.items()},
                "locks": {
                    row.dag_id: lock["lock"]
                    for row in every
                    if (lock := rows.lock_of(facts[row.dag_id], runs.get(row.dag_id, []), locks)).get("lock")
                },
            }
        )
    )


@app.get("/watchers/{dag_id}", dependencies=[READ_RUNS])
def one_watcher(dag_id: str, user: GetUserDep, session: SessionDep) -> Response:
    """Return what the tab says of a watcher beside its runs; of another DAG, that it is none."""
    try:
        row, facts = find_watcher(dag_id, user, session)
    except HTTPException:
        return answer({"none": True})  # no error: Airflow shows the tab on every DAG
    runs = data.changes(session, [dag_id], after=2**31, unfinished=[], reports=False)
    undo = _undo(user, session, facts.lock)
    session.close()
    lock = facts.lock
    locks = servers.look(rows.wanted_locks({dag_id: facts}, runs))
    state = locks.get(lock.key) if lock is not None and not lock.per_tick else None
    return answer(
        without_none(
            {
                "now": _now(),
                "deployment": _deployment(),
                **rows.watcher_json(row, facts),
                **rows.lock_of(facts, runs.get(dag_id, []), locks),
                "schedule": schedule_json(facts.timetable),
                "lock_facts": lock and lock.as_dict(),
                "waiting": state and waiting_json(state.waiting),
                "history": state and _forced(lock),
                "settings": [{"task": job.task_id, "values": dict(job.settings)} for job in facts.jobs],
                "may": {
                    "run": may(user, dag_id, "POST", DagAccessEntity.RUN),
                    "change": may(user, dag_id, "PUT"),
                    "reports": may_read_xcoms(user, dag_id),
                    "undo": undo,
                },
            }
        )
    )


@app.get("/watchers/{dag_id}/runs", dependencies=[READ_RUNS])
def runs_of(
    dag_id: str,
    user: GetUserDep,
    session: SessionDep,
    before: Annotated[int | None, Query(ge=0, le=2**33)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Return runs of a watcher, newest first, with their reports where the user may read XComs.

    Dry runs that another DAG did of it are among them.
    """
    find_watcher(dag_id, user, session)
    moment = None if before is None else datetime.fromtimestamp(before, UTC)
    reports = may_read_xcoms(user, dag_id)
    found = data.runs_before(session, dag_id, before=moment, limit=limit, reports=reports)
    shown = [(run.run_after, run.as_json()) for run in found]
    helper = dry_run_dag(user, session)
    if helper is not None and helper.dag_id != dag_id and may_read_xcoms(user, helper.dag_id):
        done = data.runs_before(
            session, helper.dag_id, before=moment, limit=limit, reports=reports, of=dag_id
        )
        oldest = shown[-1][0] if len(found) == limit else None
        shown += [
            (run.run_after, run.as_json(helper.dag_id))
            for run in done
            if oldest is None or run.run_after >= oldest
        ]
    shown.sort(key=lambda one: one[0], reverse=True)
    return answer({"runs": [run for _, run in shown], "more": len(found) == limit})


@app.get("/watchers/{dag_id}/users", dependencies=[READ_XCOMS])
def users_of(
    *,
    dag_id: str,
    user: GetUserDep,
    session: SessionDep,
    run_id: Annotated[str, Query(max_length=250)],
    task_id: Annotated[str, Query(max_length=260, pattern=r"^[^/]+(/[0-9]{1,9})?$")],
    begin: Annotated[int, Query(alias="from", ge=0)] = 0,
) -> Response:
    """Return a page of the users whom a run disabled, from its undo record.

    `task_id` is the name of a report: of a mapped task, it ends in "/" and the map index.
    """
    _, facts = find_watcher(dag_id, user, session)
    task, _, part = task_id.partition("/")
    report = data.report_of(session, dag_id, run_id, task, int(part or -1))
    session.close()
    url = report.get("undo_record") if isinstance(report, dict) else None
    if not isinstance(url, str):
        raise HTTPException(404, f"the run {run_id!r} left no undo record")
    try:
        own = [place for job in facts.jobs if job.task_id == task for place in job.undo_locations]
        places = [place or configured_location() for place in own or [None]]
        below = next((one for one in places if one and url.startswith(f"{one.rstrip('/')}/")), None)
        if below is None:
            raise HTTPException(409, f"{url} does not lie below the location of undo records")
        return answer(people.disabled_users(url, below=below, begin=begin))
    except IamWatcherError as error:
        raise HTTPException(409, str(error)) from error


def _undo(user: Any, session: Any, lock: LockFacts | None) -> dict[str, Any]:
    """Return what a run can be undone with: kind of undo -> a watcher that does it, and its param.

    Of several, it is one with the lock of the run's watcher: others may be for other tables.
    """
    every, facts = all_watchers(user, session)
    found: dict[str, Any] = {}

    def has_other_lock(row: Any) -> bool:
        own = facts[row.dag_id].lock
        return lock is None or own is None or own.key != lock.key

    can_run = [row for row in every if not row.is_broken]
    for row in sorted(can_run, key=has_other_lock):
        for job in facts[row.dag_id].jobs:
            if job.kind in UNDO:
                kind, setting = UNDO[job.kind]
                param = job.params.get(setting)
                if param is not None and kind not in found:
                    found[kind] = {"dag": row.dag_id, "param": param, "paused": bool(row.is_paused)}
    return found


def _deployment() -> str | None:
    """Return the id of this Airflow in the owners of locks; None while it has none."""
    try:
        return deployment_id()
    except DeploymentIdError:
        return None


def _forced(lock: LockFacts | None) -> list[dict[str, Any]] | None:
    """Return the forced releases of a lock, newest first; None if they can't be read."""
    if lock is None:
        return None
    try:
        past = inspection.history([servers.client(name) for name in lock.redis_conn_ids], lock.key)
    except Exception:  # noqa: BLE001  what is wrong with the servers stands beside the lock
        return None
    return [{"at": one.at, "by": one.by, "reason": one.reason, "owner": one.owner} for one in past]


def _now() -> float:
    return round(datetime.now(UTC).timestamp(), 1)


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    """Return name -> content, media type and tag of the page's files."""
    found = {}
    for path in PAGE.iterdir():
        if path.suffix in TYPES:
            content = path.read_bytes()
            found[path.name] = content, TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    return found
