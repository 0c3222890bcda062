"""The page's own routes below /iam-watcher, and who may use each.

Every route asks Airflow for authorisation, the files of the page included; a test goes through all of them.
What Airflow's own API can do (trigger a run, pause a watcher) the browser asks Airflow for.
"""

# ruff: noqa: TID253  only the API server imports this; FastAPI reads the annotations
from __future__ import annotations

import hashlib
import json
import zlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from iam_watcher.errors import DeploymentIdError, LockError
from iam_watcher.lock.admin import inspection
from iam_watcher.lock.admin.force_release import force_release
from iam_watcher.lock.deployment import deployment_id
from iam_watcher.ui import data
from iam_watcher.ui.airflow import (
    DagAccessEntity,
    DagDetails,
    DagModel,
    GetUserDep,
    SessionDep,
    action_logging,
    get_auth_manager,
    get_user,
    requires_access_dag,
)
from iam_watcher.ui.facts import FactsCache
from iam_watcher.ui.locks import Servers, lock_json, waiting_json
from iam_watcher.ui.runs import bars, seconds, without_none
from iam_watcher.ui.ticks import schedule_json
from iam_watcher.watcher_dag import TAG

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from iam_watcher.lock.admin.snapshot import LockState
    from iam_watcher.lock.facts import LockFacts
    from iam_watcher.ui.facts import Facts
    from iam_watcher.ui.runs import Run

PAGE = Path(__file__).parent / "page"
TYPES = {".js": "text/javascript", ".svg": "image/svg+xml"}
AT_ONCE = 200  # watchers in one answer
MOST_UNFINISHED = 500
# What undoes a run: operator -> the kind of record that it takes, and the argument that names one.
UNDO = {"ReenableUsersOperator": ("undo", "report"), "RestoreRowsOperator": ("archive", "path")}
OUR_HEADER = "iam-watcher"

READ_RUNS = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN))
CHANGE = Depends(requires_access_dag(method="PUT"))

app = FastAPI(title="iam-watcher", docs_url=None, redoc_url=None, openapi_url=None)
facts_cache = FactsCache()
servers = Servers()


def same_origin(
    x_requested_with: Annotated[str, Header()] = "", sec_fetch_site: Annotated[str, Header()] = "same-origin"
) -> None:
    """Refuse a request that a page of another origin makes with the user's cookie.

    A custom header needs that origin's consent of CORS; a plain form can't send one.
    """
    if x_requested_with != OUR_HEADER or sec_fetch_site not in ("same-origin", "none"):
        raise HTTPException(403, f"expected the header X-Requested-With: {OUR_HEADER}, from this origin")


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
    permitted = get_auth_manager().get_authorized_dag_ids(user=user, method="GET", session=session)
    every = data.watchers(session, permitted)
    rows = every[begin : begin + AT_ONCE]
    facts = facts_cache.get({row.dag_id: row.version for row in rows}, session)
    editable = get_auth_manager().get_authorized_dag_ids(user=user, method="PUT", session=session)
    runs = data.history(session, [row.dag_id for row in rows], reports=_may_read_xcoms(user))
    session.close()  # not held while Redis is asked
    locks = servers.look(_locks(facts, runs))
    return _answer(
        {
            "now": _now(),
            "total": len(every),
            "deployment": _deployment(),
            "may": {"run": _may(user, None, "POST", DagAccessEntity.RUN)},
            "digest": _digest(every),
            "watchers": [
                _watcher(row, facts[row.dag_id])
                | ({"edit": True} if row.dag_id in editable else {})
                | _runs(runs.get(row.dag_id, []))
                | _lock(facts[row.dag_id], runs.get(row.dag_id, []), locks)
                for row in rows
            ],
        }
    )


@app.get("/watchers/changes", dependencies=[READ_RUNS])
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
    permitted = get_auth_manager().get_authorized_dag_ids(user=user, method="GET", session=session)
    rows = data.watchers(session, permitted)
    facts = facts_cache.get({row.dag_id: row.version for row in rows}, session)
    numbers = [int(number) for number in unfinished.split(",") if number][:MOST_UNFINISHED]
    runs = data.changes(session, facts.keys(), after=after, unfinished=numbers, reports=_may_read_xcoms(user))
    session.close()
    locks = servers.look(_locks(facts, runs))
    now_digest = _digest(rows)
    return _answer(
        without_none(
            {
                "now": _now(),
                "digest": now_digest,
                "next": None if digest == now_digest else [_next(row) for row in rows],
                "runs": {dag_id: [run.as_json() for run in found] for dag_id, found in runs.items()},
                "locks": {
                    row.dag_id: lock["lock"]
                    for row in rows
                    if (lock := _lock(facts[row.dag_id], runs.get(row.dag_id, []), locks)).get("lock")
                },
            }
        )
    )


@app.get("/watchers/{dag_id}", dependencies=[READ_RUNS])
def one_watcher(dag_id: str, user: GetUserDep, session: SessionDep) -> Response:
    """Return what the tab of a watcher says beside its runs: schedule, lock, settings."""
    row, facts = _find(dag_id, user, session)
    runs = data.changes(session, [dag_id], after=2**31, unfinished=[], reports=False)
    undo = _undo(user, session)
    session.close()
    lock = facts.lock
    locks = servers.look(_locks({dag_id: facts}, runs))
    state = locks.get(lock.key) if lock is not None and not lock.per_tick else None
    return _answer(
        without_none(
            {
                "now": _now(),
                "deployment": _deployment(),
                **_watcher(row, facts),
                **_lock(facts, runs.get(dag_id, []), locks),
                "schedule": schedule_json(facts.timetable),
                "lock_facts": lock and lock.as_dict(),
                "waiting": state and waiting_json(state.waiting),
                "history": state and _forced(lock),
                "settings": [
                    {"task": job.task_id, "kind": job.kind, "values": dict(job.settings)}
                    for job in facts.jobs
                ],
                "may": {
                    "run": _may(user, dag_id, "POST", DagAccessEntity.RUN),
                    "change": _may(user, dag_id, "PUT"),
                    "reports": _may_read_xcoms(user, dag_id),
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
    """Return runs of a watcher, newest first, with their reports where the user may read XComs."""
    _find(dag_id, user, session)
    found = data.runs_before(
        session,
        dag_id,
        before=None if before is None else datetime.fromtimestamp(before, UTC),
        limit=limit,
        reports=_may_read_xcoms(user, dag_id),
    )
    return _answer({"runs": [run.as_json() for run in found]})


class Release(BaseModel):
    """Why a lock is released by force, and from whom.

    Args:
        reason: for the history of the lock.
        owner: the holder that the person saw: another one keeps it.
    """

    reason: str = Field(min_length=3, max_length=500)
    owner: str = Field(max_length=1000)


@app.post(
    "/watchers/{dag_id}/force-release",
    dependencies=[CHANGE, Depends(same_origin), Depends(action_logging("iam_watcher_force_release"))],
)
async def release_by_force(dag_id: str, body: Release, user: GetUserDep, session: SessionDep) -> Response:
    """Free a watcher's lock, whoever holds it."""
    return await run_in_threadpool(_release, dag_id, body, user, session)


def _release(dag_id: str, body: Release, user: Any, session: Any) -> Response:
    _, facts = _find(dag_id, user, session)
    if facts.lock is None or facts.lock.per_tick:
        raise HTTPException(409, f"{dag_id!r} has no lock that can be released here")
    session.close()
    try:
        clients = servers.all_of(facts.lock)
        found = inspection.holder(clients, facts.lock.key)
        if found is None or found.owner != body.owner:
            raise HTTPException(409, f"{facts.lock.key!r} has changed hands; look again")
        freed = force_release(clients, facts.lock.key, by=user.get_name(), reason=body.reason.strip())
    except LockError as error:
        raise HTTPException(409, str(error)) from error
    return _answer({"released": freed.owner})


def _find(dag_id: str, user: Any, session: Any) -> tuple[Any, Facts]:
    """Return a watcher, if there is one of this name that the user may see.

    Raises:
        HTTPException: 404.
    """
    permitted = get_auth_manager().get_authorized_dag_ids(user=user, method="GET", session=session)
    rows = data.watchers(session, permitted, dag_id)
    if not rows:
        raise HTTPException(404, f"{dag_id!r} is not a watcher")
    return rows[0], facts_cache.get({dag_id: rows[0].version}, session)[dag_id]


def _undo(user: Any, session: Any) -> dict[str, Any]:
    """Return what a run can be undone with: kind of undo -> a watcher that does it, and its param."""
    permitted = get_auth_manager().get_authorized_dag_ids(user=user, method="GET", session=session)
    rows = data.watchers(session, permitted)
    facts = facts_cache.get({row.dag_id: row.version for row in rows}, session)
    found = {}
    for row in rows:
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


def _may(user: Any, dag_id: str | None, method: Any, entity: DagAccessEntity | None = None) -> bool:
    team = DagModel.get_team_name(dag_id) if dag_id else None
    return get_auth_manager().is_authorized_dag(
        method=method, access_entity=entity, details=DagDetails(id=dag_id, team_name=team), user=user
    )


def _may_read_xcoms(user: Any, dag_id: str | None = None) -> bool:
    return _may(user, dag_id, "GET", DagAccessEntity.XCOM)


def _watcher(row: Any, facts: Facts) -> dict[str, Any]:
    return without_none(
        {
            "id": row.dag_id,
            "name": row.display_name,
            "paused": bool(row.is_paused) or None,
            "broken": bool(row.has_import_errors) or None,
            "words": row.timetable_description,
            "spec": row.timetable_summary,
            "next": seconds(row.next_dagrun_create_after),
            "tags": [tag for tag in facts.tags if tag != TAG] or None,
            "jobs": {job.task_id: job.kind for job in facts.jobs} or None,
            "drydefault": facts.dry_run or None,
            "key": facts.lock.key if facts.lock else None,
        }
    )


def _next(row: Any) -> list[Any]:
    return [
        row.dag_id,
        int(row.is_paused),
        seconds(row.next_dagrun_create_after),
        int(bool(row.has_import_errors)),
    ]


def _runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the last runs whole, as far as the row needs them, and all before as bars."""
    whole = [run for number, run in enumerate(runs) if run.state in data.UNFINISHED or number == 0]
    if whole and all(run.state in data.UNFINISHED for run in whole):
        whole += [run for run in runs[: data.WHOLE] if run not in whole]
    rest = [run for run in runs if run not in whole]
    return {"runs": [run.as_json() for run in whole], "bars": bars(reversed(rest))}


def _locks(facts: Mapping[str, Facts], runs: Mapping[str, Iterable[Run]]) -> dict[str, Sequence[str]]:
    """Return key -> connections of the locks that matter now."""
    found: dict[str, Sequence[str]] = {}
    for dag_id, fact in facts.items():
        if fact.lock is not None:
            for key in _keys(fact.lock, runs.get(dag_id, ())):
                found[key] = fact.lock.redis_conn_ids
    return found


def _keys(lock: LockFacts, runs: Iterable[Run]) -> list[str]:
    if not lock.per_tick:
        return [lock.key]
    return [lock.key_at(run.run_after) for run in runs if run.state in data.UNFINISHED]


def _lock(facts: Facts, runs: Iterable[Run], locks: Mapping[str, LockState]) -> dict[str, Any]:
    """Return the lock of a watcher, if it is not free; of several, the first that is held."""
    if facts.lock is None:
        return {}
    found = (lock_json(locks[key]) for key in _keys(facts.lock, runs))
    return without_none({"lock": next((one for one in found if one), None)})


def _forced(lock: LockFacts | None) -> list[dict[str, Any]] | None:
    """Return the forced releases of a lock, newest first; None if they can't be read."""
    if lock is None:
        return None
    try:
        past = inspection.history([servers.client(name) for name in lock.redis_conn_ids], lock.key)
    except Exception:  # noqa: BLE001  what is wrong with the servers stands beside the lock
        return None
    return [{"at": one.at, "by": one.by, "reason": one.reason, "owner": one.owner} for one in past]


def _digest(rows: Iterable[Any]) -> int:
    return zlib.crc32(json.dumps([_next(row) for row in rows]).encode())


def _now() -> float:
    return round(datetime.now(UTC).timestamp(), 1)


def _answer(value: Any) -> Response:
    # Not by FastAPI's encoder, which takes longer than the queries.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(text, media_type="application/json", headers=headers)


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    """Return name -> content, media type and tag of the page's files."""
    found = {}
    for path in PAGE.iterdir():
        if path.suffix in TYPES:
            content = path.read_bytes()
            found[path.name] = content, TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    return found
