"""Asks the servers that the active watchers use, once and with short time-outs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iam_watcher.airflow_internals.page import create_session
from iam_watcher.errors import DatabaseUnavailable, LockError
from iam_watcher.lock.admin.server_state import examined, servers
from iam_watcher.lock.deployment import claimed_by_another, deployment_id
from iam_watcher.lock.quorum import majority
from iam_watcher.ui import data
from iam_watcher.ui.access import facts_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REDIS, DATABASE, DEPLOYMENT = "redis", "database", "deployment_id"
ANSWER_WITHIN = 1  # seconds that a server has to connect, and for each answer
MOST_AT_ONCE = 16  # connections
# No watcher has this key, so to set it where it exists changes nothing. But a server that takes no writes, or
# whose memory is full, refuses that.
NO_KEY = "iam-watcher:health"


@dataclass(frozen=True)
class Health:
    """What a look found.

    Args:
        faults: part -> what is wrong with it; "" if it is good, None if no active watcher uses it.
    """

    faults: Mapping[str, str | None]

    @property
    def is_good(self) -> bool:
        """Whether no part has a fault."""
        return not any(self.faults.values())

    def as_dict(self) -> dict[str, str | None]:
        """Return part -> "healthy", "unhealthy" or None: nothing that a stranger must not know."""
        words = {"": "healthy", None: None}
        return {part: words.get(fault, "unhealthy") for part, fault in self.faults.items()}


@dataclass(frozen=True)
class Used:
    """What the watchers that are not paused use.

    Args:
        locks: the Airflow connections of each lock: one, or those of a quorum.
        databases: the Airflow connections of the jobs, and of the schedules `rows_in_state`.
    """

    locks: frozenset[tuple[str, ...]]
    databases: frozenset[str]


@dataclass(frozen=True)
class RedisAnswer:
    """What the Redis behind a connection said.

    Args:
        fault: what is wrong with it, or "".
        is_claimed: another Airflow uses our deployment id there.
    """

    fault: str
    is_claimed: bool = False


def all_unhealthy(fault: str) -> Health:
    """Return that nothing could be asked."""
    return Health(dict.fromkeys((REDIS, DATABASE, DEPLOYMENT), fault))


def look() -> Health:
    """Ask the servers that the active watchers use, all at once. It never raises an error."""
    try:
        used = find_used()
    except Exception as error:  # noqa: BLE001  whatever it is, the watchers can't be found
        return all_unhealthy(f"Airflow's database does not tell which watchers there are: {_kind(error)}")
    id_fault = _fault_of_id()
    names = sorted({name for lock in used.locks for name in lock})
    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        databases = [pool.submit(_ask_database, name) for name in sorted(used.databases)]
        asked = {name: pool.submit(_ask_redis, name, has_id=not id_fault) for name in names}
    answers = {name: future.result() for name, future in asked.items()}
    claimed = [name for name, answer in answers.items() if answer.is_claimed]
    if claimed and not id_fault:
        id_fault = f"another Airflow uses the deployment id on the Redis of {', '.join(map(repr, claimed))}"
    return Health(
        {
            REDIS: _fault_of_locks(used, answers) if used.locks else None,
            DATABASE: "; ".join(filter(None, (one.result() for one in databases))) if databases else None,
            DEPLOYMENT: id_fault,
        }
    )


def find_used() -> Used:
    """Return what the active watchers use, as Airflow stored their DAGs."""
    with create_session() as session:
        rows = [row for row in data.watchers(session, None) if not row.is_paused]
        facts = facts_cache.get(rows, session).values()
    jobs = {name for one in facts for job in one.jobs for name in job.mysql_conn_ids}
    schedules = {name for one in facts for name in one.schedule_mysql_conn_ids}
    return Used(
        locks=frozenset(tuple(one.lock.redis_conn_ids) for one in facts if one.lock),
        databases=frozenset(jobs | schedules),
    )


def _fault_of_locks(used: Used, answers: Mapping[str, RedisAnswer]) -> str:
    """Return why locks can't be acquired; "" if each has a majority of its servers."""
    wrong: dict[str, None] = {}
    for lock in sorted(used.locks):
        faults = [answers[name].fault for name in lock if answers[name].fault]
        if len(lock) - len(faults) < majority(len(lock)):
            wrong |= dict.fromkeys(faults)
    return "; ".join(wrong)


def _ask_redis(conn_id: str, *, has_id: bool) -> RedisAnswer:
    claimed = False

    def ask() -> None:
        nonlocal claimed
        with examined(conn_id, answer_within=ANSWER_WITHIN) as client:
            for server in servers(client):
                server.time()
            client.set(NO_KEY, "", xx=True)
            claimed = has_id and claimed_by_another(client)

    return RedisAnswer(_fault_of(ask, f"the Redis of {conn_id!r}"), claimed)


def _ask_database(conn_id: str) -> str:
    def ask() -> None:
        from iam_watcher.database.hook import connect  # The page itself never loads a client of MySQL.

        # A new connection also sets up its session, so it needs the login and several answers.
        with closing(connect(conn_id, answer_within=ANSWER_WITHIN)):
            pass

    return _fault_of(ask, f"the database of {conn_id!r}")


def _fault_of_id() -> str:
    return _fault_of(deployment_id, "the deployment id")


def _fault_of(ask: Callable[[], object], what: str) -> str:
    try:
        ask()
    except LockError as error:
        return error.facts
    except DatabaseUnavailable as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  of a connection's URI, for one: its text may have a password
        return f"{what} can't be used: {_kind(error)}"
    return ""


def _kind(error: Exception) -> str:
    return f"{type(error).__name__} (its text is not shown: it may have a password)"
