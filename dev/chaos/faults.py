"""The faults of `make chaos`: what each does to the cluster, and how long its consequences may last.

A fault returns when it is over: what it ended has been started again. What the cluster does about it then is
judged by the time until each kind of watcher has worked again.

The list has all faults, each with its bound: hence the length.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dev.chaos.link import State
from dev.chaos.periods import PERIODS
from dev.chaos.place import LEASE, LINKED
from dev.cluster.cluster import API_SERVERS, SCHEDULERS, WORKERS
from dev.sessions import session_members, wait_until

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from dev.chaos.place import Place

_RESTART_SECONDS = 5  # what a supervisor such as systemd or Docker takes
_TAKEN_OVER_WITHIN = 150 + LEASE
_PAST_THE_HEARTBEAT = 75
_TASK_WAIT_SECONDS = 240  # the other deployment may have the next scheduled times
_WARM_SHUTDOWN_SECONDS = 180
_MID_TRANSACTION_SECONDS = 60
_CUT_SECONDS = 20  # longer than a lease
# A purge's own changes: its rows, and what the trigger logs of them.
_UNCOMMITTED = (
    "SELECT session.id FROM information_schema.innodb_trx AS trx"
    " JOIN information_schema.processlist AS session"
    " ON session.id = trx.trx_mysql_thread_id WHERE session.user = %s AND trx.trx_rows_modified > 1"
)
_CLAIMED = "SELECT id FROM chaos_rows WHERE status = 'work' AND claimedBy LIKE %s"
_RUNNING = (
    "SELECT id, dag_id FROM task_instance WHERE state = 'running' AND task_id IN ('work', 'purge', 'disable')"
)


class NotDone(Exception):  # noqa: N818  not a failure of the cluster
    """A fault could not be injected."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Args:
        name: As the report has it.
        bound: Seconds after its end within which each kind of watcher works again, as docs/operate.md has it.
        inject: Does it, and returns what it hit.
    """

    name: str
    bound: int
    inject: Callable[[Place, random.Random], str]


def _tasks(place: Place, wanted: str = "") -> list[tuple[int, int, str]]:
    """Return the running tasks: the process that supervises it, its own process, its DAG."""
    dags = {row["id"]: row["dag_id"] for row in place.airflow_rows(_RUNNING)}
    found = []
    for worker in WORKERS:
        for pid in session_members(place.cluster.processes[worker].pid):
            with suppress(OSError):
                title = (
                    Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                dag = dags.get(title.removeprefix("airflow supervisor: ").strip(), "")
                # The process of a task begins with the title of its supervisor.
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                if dag.startswith(wanted) and dag and children:
                    found.append((pid, int(children[0]), dag))
    return found


def _task(place: Place, rng: random.Random, wanted: str = "") -> tuple[int, int, str]:
    """Wait for a running task, and return one as `_tasks` does.

    Raises:
        NotDone: None ran for some minutes.
    """
    deadline = time.monotonic() + _TASK_WAIT_SECONDS
    while not (found := _tasks(place, wanted)):
        if time.monotonic() > deadline:
            raise NotDone(f"no task {wanted} ran within {_TASK_WAIT_SECONDS} s")
        time.sleep(0.1)
    return rng.choice(sorted(found))


def _kill_task(place: Place, rng: random.Random) -> str:
    _, pid, dag = _task(place, rng)
    os.kill(pid, signal.SIGKILL)
    return dag


def _kill_supervisor(place: Place, rng: random.Random) -> str:
    pid, _, dag = _task(place, rng)
    os.kill(pid, signal.SIGKILL)
    return dag


def _kill(place: Place, name: str, pause: float = _RESTART_SECONDS) -> str:
    """Kill a component, and start it again."""
    _kill_with_children(place, name)
    time.sleep(pause)
    place.cluster.start_one(name)
    return name


def _kill_with_children(place: Place, name: str) -> None:
    """Kill a component with its children, as the failure of a machine or the end of a container does.

    If only a scheduler's main process is killed, the child that answers its health checks keeps the sessions
    of the database open, with their locks. So a task could stay queued as long as the child lives.
    """
    members = session_members(place.cluster.processes[name].pid)
    place.cluster.processes[name].kill()
    for pid in members:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _kill_worker(place: Place, rng: random.Random) -> str:
    name = rng.choice(WORKERS)
    _task(place, rng)
    return _kill(place, name)


def _stop_worker(place: Place, rng: random.Random) -> str:
    """SIGTERM to Celery's main process: it takes no new task and ends after the running ones."""
    name = rng.choice(WORKERS)
    process = place.cluster.processes[name]
    process.signal(signal.SIGTERM)
    if process.wait(_WARM_SHUTDOWN_SECONDS) is None:
        raise TimeoutError(f"{name} did not end within {_WARM_SHUTDOWN_SECONDS} s after SIGTERM")
    place.cluster.start_one(name)
    return name


def _paused(pids: list[int], seconds: float, over: Callable[[], bool] = lambda: False) -> None:
    """Stop processes (SIGSTOP) for some seconds, or until `over`."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(over, seconds, 0.5)
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _freeze_purge(place: Place, rng: random.Random) -> str:
    """Stop the process of a purge in a transaction after its first, until the other deployment has written.

    The other deployment is asked for a run when the lease is over: after a minute without a statement, the
    server ends the session of the first one, whatever else protects the rows.
    """
    supervisor, pid, dag = _task(place, rng, "chaos_purge")
    deadline = time.monotonic() + _MID_TRANSACTION_SECONDS
    while time.monotonic() < deadline:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        session = _last_purge(place)
        if (session,) in place.rows(_UNCOMMITTED, place.mariadb.user):
            break
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        time.sleep(rng.uniform(0.02, 0.1))
    else:
        raise NotDone(f"no transaction of a purge within {_MID_TRANSACTION_SECONDS} s")
    frozen = time.time()
    asked = False

    def taken_over() -> bool:
        nonlocal asked
        if not asked and time.time() - frozen > LEASE:
            place.other.api("/dags/chaos_purge/dagRuns", {"logical_date": None})
            asked = True
        return _last_purge(place) != session

    _paused([supervisor, pid], _TAKEN_OVER_WITHIN, taken_over)
    return f"{dag}, for {time.time() - frozen:.0f} s"


def _last_purge(place: Place) -> int:
    """Return the session of the last committed deletion, or 0."""
    found = place.rows("SELECT session FROM chaos_log WHERE kind = 'purge' ORDER BY id DESC LIMIT 1")
    return int(found[0][0]) if found else 0


def _freeze_rows(place: Place, rng: random.Random) -> str:
    """Stop the process of a row's function, until others have finished the rows that it has claimed."""
    supervisor, pid, dag = _task(place, rng, "chaos_rows")
    claimant = f"%/{dag}/%"
    wait_until(lambda: bool(place.rows(_CLAIMED, claimant)), 60, 0.1)
    claimed = ", ".join(str(int(row)) for (row,) in place.rows(_CLAIMED, claimant)) or "0"
    left = f"SELECT 1 FROM chaos_rows WHERE id IN ({claimed}) AND status NOT IN ('done', 'failed') LIMIT 1"
    frozen = time.time()
    _paused([supervisor, pid], _TAKEN_OVER_WITHIN, lambda: not place.rows(left))
    return f"{dag}, for {time.time() - frozen:.0f} s"


def _freeze_worker(place: Place, rng: random.Random) -> str:
    name = rng.choice(WORKERS)
    _task(place, rng)
    _paused(session_members(place.cluster.processes[name].pid), _PAST_THE_HEARTBEAT)
    return name


def _freeze_scheduler(place: Place, rng: random.Random) -> str:
    name = rng.choice(SCHEDULERS)
    _paused(session_members(place.cluster.processes[name].pid), _PAST_THE_HEARTBEAT)
    return name


def _freeze_other_scheduler(place: Place, _: random.Random) -> str:
    """Stop the other deployment's scheduler at a scheduled time of both: its run comes half a minute late."""
    period, offset = PERIODS["chaos_purge"]
    time.sleep((offset - 5 - time.time()) % period)
    _paused([place.other.processes["scheduler"].pid], 40)
    return "chaos_purge"


def _restart_redis(place: Place, _: random.Random) -> str:
    place.redis.crash()
    time.sleep(_RESTART_SECONDS)
    place.redis.start()
    return "with its append-only file"


def _flush_redis(place: Place, _: random.Random) -> str:
    with place.redis.client() as client:
        client.flushall()
    return "locks and queue"


def _end_postgres_sessions(place: Place, _: random.Random) -> str:
    ended = place.postgres.sql(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = 'airflow' AND pid <> pg_backend_pid()"
    )
    return f"{ended} sessions"


def _end_database_sessions(place: Place, _: random.Random) -> str:
    # The clients of the chaos have the admin's account, so these are the sessions of the tasks.
    query = "SELECT id FROM information_schema.processlist WHERE user = %s"
    sessions = place.rows(query, place.mariadb.user)
    for (session,) in sessions:
        with suppress(Exception):  # it has ended by itself
            place.rows(f"KILL CONNECTION {int(session)}")
    return f"{len(sessions)} sessions"


def _kill_one_api_server(place: Place, rng: random.Random) -> str:
    return _kill(place, rng.choice(API_SERVERS), 10)


def _kill_all_api_servers(place: Place, _: random.Random) -> str:
    for name in API_SERVERS:
        _kill_with_children(place, name)
    time.sleep(10)
    for name in API_SERVERS:
        place.cluster.start_one(name)
    return "both"


def _cut(server: str) -> Callable[[Place, random.Random], str]:
    """Return a fault: the connections of one worker to a server are cut in one way or another."""

    def cut(place: Place, rng: random.Random) -> str:
        state = rng.choice([state for state in State if state is not State.WHOLE])
        place.links[server].set(state)
        try:
            time.sleep(_CUT_SECONDS)
        finally:
            place.links[server].set(State.WHOLE)
        return f"{LINKED}, {state}"

    return cut


# In the order in which a short run takes them. The bounds come from cluster.env: a task without a heartbeat
# is retried after 60 s, a lost message is found after 180 to 210 s, and the next run comes within a minute.
FAULTS = (
    Fault("kill -9 of a task", 90, _kill_task),
    Fault("kill -9 of a worker", 330, _kill_worker),
    Fault("SIGSTOP of a purge for longer than its lease", 120, _freeze_purge),
    Fault("SIGSTOP of a process_rows task for longer than its claim time-out", 90, _freeze_rows),
    Fault("SIGSTOP of the other deployment's scheduler", 90, _freeze_other_scheduler),
    Fault("kill -9 of a scheduler", 150, lambda place, rng: _kill(place, rng.choice(SCHEDULERS))),
    Fault("FLUSHALL in Redis", 270, _flush_redis),
    Fault("SIGTERM to a worker", 90, _stop_worker),
    Fault("sessions of MariaDB ended", 90, _end_database_sessions),
    Fault("kill -9 of the triggerer", 150, lambda place, _: _kill(place, "triggerer")),
    Fault("sessions of PostgreSQL ended", 150, _end_postgres_sessions),
    Fault("kill -9 of Redis", 270, _restart_redis),
    Fault("kill -9 of one API server", 90, _kill_one_api_server),
    Fault("kill -9 of a supervisor", 150, _kill_supervisor),
    Fault("SIGSTOP of a worker for longer than the heartbeat time-out", 330, _freeze_worker),
    Fault("SIGSTOP of a scheduler for longer than its heartbeat time-out", 150, _freeze_scheduler),
    Fault("kill -9 of both API servers", 150, _kill_all_api_servers),
    Fault("kill -9 of the dag-processor", 90, lambda place, _: _kill(place, "dag-processor")),
    Fault("a worker's connections to Redis cut", 270, _cut("redis")),
    Fault("a worker's connections to MariaDB cut", 150, _cut("mariadb")),
    Fault("a worker's connections to the API servers cut", 150, _cut("api")),
)
