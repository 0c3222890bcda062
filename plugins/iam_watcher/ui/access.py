"""Who may ask, from where, and for which watchers; and what every answer has in common."""

# ruff: noqa: TID253  only the API server imports this
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Header, HTTPException, Response

from iam_watcher.airflow_internals.page import (
    DagAccessEntity,
    DagDetails,
    DagModel,
    get_auth_manager,
    requires_access_dag,
)
from iam_watcher.ui import data
from iam_watcher.ui.facts import FactsCache

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from iam_watcher.ui.facts import Facts

OUR_HEADER = "iam-watcher"
DRY_RUN_OPERATOR = "DryRunWatcherOperator"

READ_RUNS = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN))
READ_XCOMS = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))
START_RUNS = Depends(requires_access_dag(method="POST", access_entity=DagAccessEntity.RUN))
CHANGE = Depends(requires_access_dag(method="PUT"))

facts_cache = FactsCache()


def same_origin(
    x_requested_with: Annotated[str, Header()] = "", sec_fetch_site: Annotated[str, Header()] = "same-origin"
) -> None:
    """Refuse a request that a page of another origin makes with the user's cookie.

    A custom header needs that origin's consent of CORS; a plain form can't send one.
    """
    if x_requested_with != OUR_HEADER or sec_fetch_site not in ("same-origin", "none"):
        raise HTTPException(403, f"expected the header X-Requested-With: {OUR_HEADER}, from this origin")


def permitted_dags(user: Any, session: Any, method: Any = "GET") -> Collection[str]:
    """Return the DAGs that Airflow lets a user see, or with another method change."""
    found: Collection[str] = get_auth_manager().get_authorized_dag_ids(
        user=user, method=method, session=session
    )
    return found


def all_watchers(
    user: Any, session: Any, *, since: datetime | None = None
) -> tuple[Sequence[Any], dict[str, Facts]]:
    """Return the watchers that a user may see, and their facts; `since`: see `data.watchers`."""
    rows = data.watchers(session, permitted_dags(user, session), since=since)
    return rows, facts_cache.get(rows, session)


def listed_watchers(
    user: Any, session: Any, *, since: datetime | None = None
) -> tuple[Sequence[Any], dict[str, Facts]]:
    """Return the watchers of the list: without those that the page alone uses, for dry runs of others."""
    rows, facts = all_watchers(user, session, since=since)
    listed = [row for row in rows if not does_dry_runs(facts[row.dag_id])]
    return listed, {row.dag_id: facts[row.dag_id] for row in listed}


def does_dry_runs(facts: Facts) -> bool:
    """Return whether a watcher does dry runs of others."""
    return any(job.kind == DRY_RUN_OPERATOR for job in facts.jobs)


def find_watcher(dag_id: str, user: Any, session: Any) -> tuple[Any, Facts]:
    """Return a watcher, if there is one of this name that the user may see.

    Raises:
        HTTPException: 404.
    """
    rows = data.watchers(session, permitted_dags(user, session), dag_id)
    if not rows:
        raise HTTPException(404, f"{dag_id!r} is not a watcher")
    return rows[0], facts_cache.get(rows, session)[dag_id]


def may(user: Any, dag_id: str | None, method: Any, entity: DagAccessEntity | None = None) -> bool:
    """Return whether Airflow lets a user do something with a DAG, or with DAGs in general (None)."""
    team = DagModel.get_team_name(dag_id) if dag_id else None
    return get_auth_manager().is_authorized_dag(
        method=method, access_entity=entity, details=DagDetails(id=dag_id, team_name=team), user=user
    )


def may_read_xcoms(user: Any, dag_id: str | None = None) -> bool:
    """Return whether a user may read what runs returned."""
    return may(user, dag_id, "GET", DagAccessEntity.XCOM)


def answer(value: Any, *, status: int = 200) -> Response:
    """Return a value as JSON that nothing keeps."""
    # Not by FastAPI's encoder, which takes longer than the queries.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(text, status, media_type="application/json", headers=headers)
