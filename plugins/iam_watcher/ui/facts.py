"""What a watcher is, from the DAG that Airflow stored: its lock, its schedule, its jobs. No run is needed."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from iam_watcher.airflow_internals.page import SerializedDagModel
from iam_watcher.lock import ACQUIRE_TASK_ID, RELEASE_TASK_ID
from iam_watcher.lock.facts import LockFacts
from iam_watcher.run_conf import DRY_RUN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy.orm import Session

LONGEST_SETTING = 300  # characters that the page shows
# What is true of each DatabaseOperator, which the page must not import.
MYSQL_CONN_ID = "iam_mysql"
DATABASE_FIELD = "is_dry_run"
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
        mysql_conn_ids: the Airflow connections of its database: several, if its mapped parts have their own.
    """

    task_id: str
    kind: str
    settings: Mapping[str, Any]
    params: Mapping[str, str]
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
        max_share: a run can have a safety limit of its own.
        schedule_mysql_conn_ids: the Airflow connections that the triggers of a schedule `rows_in_state` ask.
    """

    tags: tuple[str, ...] = ()
    lock: LockFacts | None = None
    timetable: Mapping[str, Any] = field(default_factory=dict)
    jobs: tuple[Job, ...] = ()
    dry_run: bool = False
    max_share: bool = False
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
    dag = data.get("dag", {})
    tasks = {task["__var"]["task_id"]: task["__var"] for task in dag.get("tasks", ())}
    params = dict(_params(dag.get("params", ())))
    acquire = tasks.get(ACQUIRE_TASK_ID, {}).get("lock_facts")
    timetable = dag.get("timetable", {}).get("__var")
    return Facts(
        tags=tuple(sorted(str(tag) for tag in dag.get("tags", ()))),
        lock=LockFacts.read(acquire) if isinstance(acquire, dict) else None,
        timetable=timetable if isinstance(timetable, dict) and "spec" in timetable else {},
        jobs=tuple(
            Job(
                task_id,
                kind=str(task.get("task_type", "")),
                settings=dict(_settings(task, params)),
                params=dict(_params_of(task, params)),
                mysql_conn_ids=_mysql_conn_ids(task),
            )
            for task_id, task in tasks.items()
            if task_id not in (ACQUIRE_TASK_ID, RELEASE_TASK_ID)
        ),
        dry_run=DRY_RUN in params,
        max_share="max_share" in params,
        schedule_mysql_conn_ids=tuple(dict.fromkeys(_asked_by_triggers(timetable))),
    )


def _asked_by_triggers(stored: Any) -> Iterator[str]:
    """Yield the connections that the triggers in a stored timetable ask; assets may be anywhere in it."""
    if isinstance(stored, list):
        for part in stored:
            yield from _asked_by_triggers(part)
    elif isinstance(stored, dict):
        if stored.get("classpath") == ROWS_IN_STATE:
            yield stored["kwargs"]["mysql_conn_id"]
        else:
            yield from _asked_by_triggers(list(stored.values()))


def _mysql_conn_ids(task: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the connections of a task, as far as the DAG file itself says them."""
    if DATABASE_FIELD not in task.get("template_fields", ()):
        return ()
    found: Any = [task.get("mysql_conn_id", MYSQL_CONN_ID)]
    if task.get("_is_mapped"):
        mapped = task.get("expand_input", {})
        default = task.get("partial_kwargs", {}).get("mysql_conn_id", MYSQL_CONN_ID)
        if mapped.get("type") == "dict-of-lists":  # of `expand`
            found = mapped["value"]["__var"].get("mysql_conn_id", [default])
        else:  # of `expand_kwargs`: a list, or what another task returns
            parts = mapped["value"] if isinstance(mapped.get("value"), list) else []
            found = [part["__var"].get("mysql_conn_id", default) for part in parts]
    return tuple(name for name in found if isinstance(name, str)) if isinstance(found, list) else ()


def _params(stored: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    for name, param in stored:
        default = param.get("default") if isinstance(param, dict) else None
        yield name, default.get("__var") if isinstance(default, dict) else default


def _params_of(task: Mapping[str, Any], params: Iterable[str]) -> Iterable[tuple[str, str]]:
    by_template = {f"{{{{ params.{param} }}}}": param for param in params}
    for name in task.get("template_fields", ()):
        if isinstance(value := task.get(name), str) and value in by_template:
            yield name, by_template[value]


def _settings(task: Mapping[str, Any], params: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    fields = task.get("template_fields", ())
    if DATABASE_FIELD not in fields:
        return
    given = dict(_params_of(task, params))
    for name in fields:
        value = params[given[name]] if name in given else task.get(name)
        if value is not None and name in SETTINGS:
            yield name, value if isinstance(value, bool | int | float) else _shown(str(value))


def _shown(text: str) -> str:
    return HIDDEN if _CREDENTIALS.search(text) else text[:LONGEST_SETTING]
