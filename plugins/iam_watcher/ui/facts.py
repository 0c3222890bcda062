"""What a watcher is, from the DAG that Airflow stored: its lock, its schedule, its jobs. No run is needed."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from iam_watcher.airflow_internals.page import SerializedDagModel
from iam_watcher.airflow_internals.stored_dag import (
    stored_params,
    stored_tags,
    stored_tasks,
    stored_timetable,
    stored_triggers,
    stored_values,
)
from iam_watcher.job_tasks import DRY_RUN_FIELD, MYSQL_CONN_ID
from iam_watcher.lock import ACQUIRE_TASK_ID, RELEASE_TASK_ID
from iam_watcher.lock.facts import LockFacts
from iam_watcher.run_conf import DRY_RUN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy.orm import Session

LONGEST_SETTING = 300  # characters that the page shows
# The template fields that the page shows, of database operators only. Any other template field, also one of
# an operator that a user derived from ours, may have a secret: `env`, `headers`, a command. `names` is not
# here, because a person needs the right to read XComs to see names of users.
SETTINGS = frozenset(
    {
        *("max_inactive_days", "min_age_days", "undo_location", "max_share", "max_rows"),
        *("older_than", "older_than_days", "grace", "grace_days", "archive"),
        *("undo_record", "path", "location", "from_database"),
    }
)
HIDDEN = "***"
# A password or a signature in a URL. The jobs refuse both, but they know the value of a template only when
# they run.
_CREDENTIALS = re.compile(r":/{1,2}[^@]*:[^@]*@|\?")
# In a template: `params.max_share` or `params["max_share"]`.
_OWN_LIMIT = re.compile(r"\bparams(?:\.|\[['\"])max_share\b")
# The class of the trigger of `rows_in_state`, which the page must not import either.
ROWS_IN_STATE = "iam_watcher.jobs.rows_in_state_trigger.RowsInStateTrigger"


@dataclass(frozen=True)
class Job:
    """A task of a watcher.

    Args:
        task_id: its name.
        kind: the operator's class.
        settings: name -> value of the template fields in SETTINGS, as the DAG file gives it; params are
            filled in. Empty for a task that is not a database operator.
        params: name of a setting -> the param that it is.
        has_own_limit: a run can have a safety limit of its own, by the param `max_share`.
        undo_locations: of its undo records, None for that of Airflow's option `archive`; several, if its
            mapped parts have their own.
        mysql_conn_ids: the Airflow connections of its database: several, if its mapped parts have their own.
    """

    task_id: str
    kind: str
    settings: Mapping[str, Any]
    params: Mapping[str, str]
    has_own_limit: bool = False
    undo_locations: tuple[str | None, ...] = ()
    mysql_conn_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What the page says of a watcher beside its runs.

    Args:
        tags: of the DAG.
        lock: None for a watcher without one, or one that another version of iam-watcher stored.
        timetable: what the timetable was made of: spec, dst, overlap, missed_grace.
        jobs: the tasks that work.
        dry_run: a run can be a dry run.
        schedule_mysql_conn_ids: the Airflow connections that the triggers of a schedule `rows_in_state` ask.
    """

    tags: tuple[str, ...] = ()
    lock: LockFacts | None = None
    timetable: Mapping[str, Any] = field(default_factory=dict)
    jobs: tuple[Job, ...] = ()
    dry_run: bool = False
    schedule_mysql_conn_ids: tuple[str, ...] = ()


class FactsCache:
    """Facts of the stored DAGs: read again only after a file has changed."""

    def __init__(self) -> None:
        self._by_dag: dict[str, tuple[Any, Facts]] = {}
        self._guard = threading.Lock()

    def get(self, rows: Iterable[Any], session: Session) -> dict[str, Facts]:
        """Return dag_id -> facts.

        Args:
            rows: of `data.watchers`.
            session: of Airflow's database; used only for DAGs whose files have changed.
        """
        # Airflow writes a changed file into the same row as long as that has no run: hence the hash.
        versions = {row.dag_id: (row.stored, row.dag_hash) for row in rows}
        with self._guard:
            known = dict(self._by_dag)
        changed = [
            version[0]
            for dag_id, version in versions.items()
            if version[0] is not None and known.get(dag_id, (None,))[0] != version
        ]
        if changed:
            for stored in session.scalars(
                select(SerializedDagModel).where(SerializedDagModel.id.in_(changed))
            ):
                known[stored.dag_id] = (stored.id, stored.dag_hash), read_facts(stored.data or {})
            with self._guard:
                self._by_dag.update(known)
        return {dag_id: known[dag_id][1] if dag_id in known else Facts() for dag_id in versions}


def read_facts(data: Mapping[str, Any]) -> Facts:
    """Return the facts in a serialized DAG."""
    tasks = stored_tasks(data)
    params = stored_params(data)
    acquire = tasks.get(ACQUIRE_TASK_ID, {}).get("lock_facts")
    timetable = stored_timetable(data)
    return Facts(
        tags=tuple(sorted(stored_tags(data))),
        lock=LockFacts.read(acquire) if isinstance(acquire, dict) else None,
        timetable=timetable if isinstance(timetable, dict) and "spec" in timetable else {},
        jobs=tuple(
            Job(
                task_id,
                kind=str(task.get("task_type", "")),
                settings=dict(_settings(task, params)),
                params=dict(_params_of(task, params)),
                has_own_limit="max_share" in params and _has_own_limit(task),
                undo_locations=tuple(_undo_locations(task, params)),
                mysql_conn_ids=_mysql_conn_ids(task),
            )
            for task_id, task in tasks.items()
            if task_id not in (ACQUIRE_TASK_ID, RELEASE_TASK_ID)
        ),
        dry_run=DRY_RUN in params,
        schedule_mysql_conn_ids=tuple(
            dict.fromkeys(
                arguments["mysql_conn_id"]
                for trigger, arguments in stored_triggers(timetable)
                if trigger == ROWS_IN_STATE
            )
        ),
    )


def _mysql_conn_ids(task: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the connections of a task, as far as the DAG file itself says them."""
    if DRY_RUN_FIELD not in task.get("template_fields", ()):
        return ()
    return tuple(
        name for name in stored_values(task, "mysql_conn_id", MYSQL_CONN_ID) if isinstance(name, str)
    )


def _has_own_limit(task: Mapping[str, Any]) -> bool:
    """Return whether the safety limit of a task is the param `max_share`."""
    given = stored_values(task, "max_share") if "max_share" in task.get("template_fields", ()) else []
    return any(isinstance(value, str) and _OWN_LIMIT.search(value) for value in given)


def _undo_locations(task: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[str | None]:
    """Yield the locations of undo records of a task; None for one that the DAG file does not set."""
    if DRY_RUN_FIELD in (fields := task.get("template_fields", ())) and "undo_location" in fields:
        for value in stored_values(task, "undo_location"):
            filled = _filled(value, params)
            yield _shown(str(filled)) if filled else None


def _params_of(task: Mapping[str, Any], params: Iterable[str]) -> Iterable[tuple[str, str]]:
    by_template = _templates(params)
    for name in task.get("template_fields", ()):
        for value in stored_values(task, name):
            if isinstance(value, str) and value in by_template:
                yield name, by_template[value]


def _settings(task: Mapping[str, Any], params: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    fields = task.get("template_fields", ())
    if DRY_RUN_FIELD not in fields:
        return
    for name in fields:
        if name in SETTINGS:
            given = (_filled(value, params) for value in stored_values(task, name))
            found = [*dict.fromkeys(_shown(value) for value in given if value is not None)]
            if found:
                yield name, found[0] if len(found) == 1 else ", ".join(map(str, found))[:LONGEST_SETTING]


def _templates(params: Iterable[str]) -> dict[str, str]:
    return {f"{{{{ params.{param} }}}}": param for param in params}


def _filled(value: Any, params: Mapping[str, Any]) -> Any:
    """Return the default of a param for its template, and any other value as it is."""
    name = _templates(params).get(value) if isinstance(value, str) else None
    return value if name is None else params[name]


def _shown(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    text = str(value)
    return HIDDEN if _CREDENTIALS.search(text) else text[:LONGEST_SETTING]
