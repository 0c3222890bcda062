"""Where the chaos happens: two deployments on one Redis and one MariaDB, and the tables of the watchers."""

from __future__ import annotations

import json
import shlex
import shutil
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dev.airflow import ROOT, Airflow
from dev.chaos.link import Link
from dev.chaos.steps import WORKER
from dev.cluster.cluster import WORKERS, Cluster
from dev.cluster.shared import PERSISTENT
from dev.postgres import PostgreSQL
from dev.processes import require
from dev.servers import SAMPLE_FILE, MariaDB, Redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).parent
QUEUE = 1  # the Redis database of Celery's queue; 0 has the locks
LEASE = 15  # seconds, of the watchers' locks
LINKED = WORKERS[0]  # the worker behind the links

# Code that is broken on purpose: file, text, replacement. The chaos must notice each.
BREAKS = {
    "database_lock": (
        "jobs/database_operator.py",
        "if grant is None or not grant.database_lock:",
        "if True:",
    ),
    "once_per_tick": (
        "lock/grant.py",
        "tick = tick_of(context) if lock.once_per_tick else None",
        "tick = None",
    ),
    "claimant": (
        "walk/claim/finish.py",
        "SET {assignments} WHERE {keys} AND {mine}",
        "SET {assignments} WHERE {keys}",
    ),
}


@dataclass(frozen=True)
class Place:
    """The servers and the deployments.

    Args:
        cluster: Deployment `a`, with all watchers; the faults hit it.
        other: Deployment `b`, one machine, with the watchers of dags/both.
        postgres: The database of `cluster`.
        redis: Of the locks and the queue.
        mariadb: Of the rows.
        links: LINKED's connections to redis, mariadb and the API servers ("api").
    """

    cluster: Cluster
    other: Airflow
    postgres: PostgreSQL
    redis: Redis
    mariadb: MariaDB
    links: Mapping[str, Link] = field(default_factory=dict)

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query on MariaDB, as the admin; changes are committed."""
        with closing(self.mariadb.connect(connect_timeout=10)) as connection, connection.cursor() as cursor:
            cursor.execute(query, values)
            found = list(cursor.fetchall())
            connection.commit()
            return found

    def airflow_rows(self, query: str) -> list[dict[str, Any]]:
        """Return the rows of a query on Airflow's database."""
        text = self.postgres.sql(f"SELECT COALESCE(json_agg(found), '[]') FROM ({query}) AS found")
        found: list[dict[str, Any]] = json.loads(text)
        return found


@contextmanager
def open_place(folder: Path, broken: Sequence[str] = ()) -> Iterator[Place]:
    """Start everything and wait until it is healthy.

    Args:
        folder: Where everything is kept.
        broken: Keys of BREAKS; none for the code as it is.

    Raises:
        ProcessError: Something did not start.
    """
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgreSQL(folder / "postgres"))
        redis = stack.enter_context(Redis(folder / "redis", PERSISTENT))
        mariadb = stack.enter_context(MariaDB(folder / "mariadb"))
        mariadb.create_schema()
        mariadb.run_script(SAMPLE_FILE)
        mariadb.run_script(HERE / "schema.sql")
        plugins = _plugins(folder, broken)
        both = {
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__IAM_WATCHER__ARCHIVE": (folder / "archive").as_uri(),
            "PYTHONPATH": f"{ROOT}",
            "CHAOS_STEP": str(_step_program(folder, mariadb)),
        }
        connections = {"iam_mysql": mariadb.airflow_uri, "iam_redis": redis.airflow_uri}
        broker = f"redis://:{redis.password}@{redis.host}:{redis.port}/{QUEUE}"
        own = {worker: {WORKER: worker} for worker in WORKERS}
        cluster = stack.enter_context(
            Cluster(
                folder / "a",
                deployment_id="a",
                postgres=postgres,
                broker=broker,
                connections=connections,
                dags_folders=[HERE / "dags"],
                options=both,
                own=own,
            )
        )
        ports = {"redis": redis.port, "mariadb": mariadb.port, "api": cluster.port}
        links = {name: stack.enter_context(Link(port)) for name, port in ports.items()}

        def linked(name: str, address: str) -> str:
            return address.replace(f":{ports[name]}/", f":{links[name].port}/")

        own[LINKED] |= {
            "AIRFLOW_CONN_IAM_REDIS": linked("redis", redis.airflow_uri),
            "AIRFLOW__CELERY__BROKER_URL": linked("redis", broker),
            "AIRFLOW_CONN_IAM_MYSQL": linked("mariadb", mariadb.airflow_uri),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": linked("api", f"{cluster.url}/execution/"),
        }
        other = stack.enter_context(
            Airflow(
                folder / "b",
                deployment_id="b",
                connections=connections,
                dags_folders=[HERE / "dags" / "both"],
                options=both,
            )
        )
        other.healthy_seconds = cluster.healthy_seconds
        migrations = [(airflow, airflow.spawn("db-migrate", "db", "migrate")) for airflow in (cluster, other)]
        for airflow, migration in migrations:
            airflow.finish(migration)
        cluster.start()
        other.start(("api-server", "scheduler", "dag-processor"))
        cluster.wait_healthy()
        other.wait_healthy()
        yield Place(cluster, other, postgres, redis, mariadb, links)


def _plugins(folder: Path, broken: Sequence[str]) -> Path:
    """Return the folder of the plugin, or of a copy with faults."""
    if not broken:
        return ROOT / "plugins"
    copy = folder / "plugins"
    shutil.copytree(ROOT / "plugins", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text, replacement in (BREAKS[each] for each in broken):
        file = copy / "iam_watcher" / name
        code = file.read_text()
        if code.count(text) != 1:
            raise ValueError(f"{name} has {code.count(text)} times {text!r}; expected it once")
        file.write_text(code.replace(text, replacement))
    return copy


def _step_program(folder: Path, mariadb: MariaDB) -> Path:
    """Write the program that adds a step of the Bash watcher: watcher, hold, tick, what."""
    path = folder / "step"
    path.touch(mode=0o700)
    client = [
        require("mariadb", "mariadb-client-core"),
        "--no-defaults",
        *(f"--host={mariadb.host}", f"--port={mariadb.port}"),
        *(f"--user={mariadb.user}", "--database=iam", "--connect-timeout=5"),
    ]
    path.write_text(
        "#!/bin/sh\n"
        f"export MYSQL_PWD={shlex.quote(mariadb.password)}\n"
        f'exec {shlex.join(client)} --execute="INSERT INTO chaos_step'
        " (watcher, deployment, worker, tick, hold, what)"
        f" VALUES ('$1', 'a', '${WORKER}', '$3', '$2', '$4')\"\n"
    )
    return path
