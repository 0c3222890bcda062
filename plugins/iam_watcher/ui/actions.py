"""What a person does on the page that Airflow's own API has no route for."""

# ruff: noqa: TID253  only the API server imports this
from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from iam_watcher.airflow_internals.page import (
    DagAccessEntity,
    DagRunTriggeredByType,
    GetUserDep,
    SessionDep,
    action_logging,
    trigger_dag,
)
from iam_watcher.errors import LockError
from iam_watcher.lock.admin import inspection
from iam_watcher.lock.admin.force_release import force_release
from iam_watcher.ui.access import (
    CHANGE,
    START_RUNS,
    all_watchers,
    answer,
    does_dry_runs,
    find_watcher,
    may,
    same_origin,
)
from iam_watcher.ui.locks import all_servers

DRY_RUN_FILE = "dags/dry_run_watcher.py"

actions = APIRouter()


class Release(BaseModel):
    """Why a lock is released by force, and from whom.

    Args:
        reason: for the history of the lock.
        owner: the holder that the person saw: another one keeps it.
    """

    reason: str = Field(min_length=3, max_length=500)
    owner: str = Field(max_length=1000)


@actions.post(
    "/watchers/{dag_id}/force-release",
    dependencies=[CHANGE, Depends(same_origin), Depends(action_logging("iam_watcher_force_release"))],
)
async def release_by_force(dag_id: str, body: Release, user: GetUserDep, session: SessionDep) -> Response:
    """Free a watcher's lock, whoever holds it."""
    return await run_in_threadpool(_release, dag_id, body, user, session)


def _release(dag_id: str, body: Release, user: Any, session: Any) -> Response:
    _, facts = find_watcher(dag_id, user, session)
    if facts.lock is None or facts.lock.per_tick:
        raise HTTPException(409, f"{dag_id!r} has no lock that can be released here")
    session.close()
    try:
        clients = all_servers(facts.lock)
        found = inspection.holder(clients, facts.lock.key)
        if found is None or found.owner != body.owner:
            raise HTTPException(409, f"{facts.lock.key!r} has changed hands; look again")
        freed = force_release(clients, facts.lock.key, by=user.get_name(), reason=body.reason.strip())
    except LockError as error:
        raise HTTPException(409, str(error)) from error
    return answer({"released": freed.owner})


class DryRun(BaseModel):
    """Values for the params of the watcher."""

    conf: dict[str, Any] = Field(max_length=200)


@actions.post(
    "/watchers/{dag_id}/dry-run",
    dependencies=[START_RUNS, Depends(same_origin), Depends(action_logging("iam_watcher_dry_run"))],
)
async def dry_run(dag_id: str, body: DryRun, user: GetUserDep, session: SessionDep) -> Response:
    """Start a dry run of a watcher, paused or not, by the DAG that does them; return that DAG and its run."""
    return await run_in_threadpool(_dry_run, dag_id, body, user, session)


def _dry_run(dag_id: str, body: DryRun, user: Any, session: Any) -> Response:
    find_watcher(dag_id, user, session)
    helper = dry_run_dag(user, session)
    if helper is None:
        raise HTTPException(409, f"a dry run of a paused watcher needs the DAG of {DRY_RUN_FILE}; install it")
    if helper.is_paused:
        raise HTTPException(409, f"the DAG {helper.dag_id!r} is paused; switch it on, it has no schedule")
    if not may(user, helper.dag_id, "POST", DagAccessEntity.RUN):
        raise HTTPException(403, f"you need Airflow's right to trigger the DAG {helper.dag_id!r}")
    run = trigger_dag(
        dag_id=helper.dag_id,
        triggered_by=DagRunTriggeredByType.UI,
        triggering_user_name=user.get_name(),
        conf={"watcher": dag_id, "params": body.conf},
        session=session,
    )
    return answer({"dag": helper.dag_id, "run": run and run.run_id})


def dry_run_dag(user: Any, session: Any) -> Any:
    """Return the DAG that does dry runs of others, if Airflow can start a run of it; or None."""
    rows, facts = all_watchers(user, session)
    return next((row for row in rows if does_dry_runs(facts[row.dag_id]) and not row.is_broken), None)
