"""`make cluster`: run an Airflow cluster on this machine, without Docker, until Ctrl-C.

It has the components and the settings (cluster.env) of docker-compose.yaml, as plain processes.
`make cluster NAME=b` in a second terminal starts another one, which shares Redis and MariaDB with the first.
Both servers end with the last cluster.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from dev.airflow import ROOT
from dev.cluster.cluster import COMPONENTS, Cluster
from dev.cluster.shared import shared_servers
from dev.commands import write_commands
from dev.folder import fresh_folder
from dev.postgres import PostgreSQL
from dev.processes import ProcessError, interruptible, telling_of_the_end

if TYPE_CHECKING:
    from dev.cluster.shared import Connection

FOLDER = ROOT / ".run" / "cluster"


def main() -> int:
    """Run until Ctrl-C and return the exit status: 0 then, 1 after a failure."""
    parser = argparse.ArgumentParser(prog="make cluster", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", default="a", help="also the deployment id of this Airflow")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where everything is kept")
    parser.add_argument("--dags", type=Path, default=ROOT / "dags", help="folder of the watchers")
    arguments = parser.parse_args()
    if not re.fullmatch(r"[a-z0-9-]{1,20}", arguments.name) or arguments.name == "servers":
        parser.error(f"NAME={arguments.name!r} is not valid. Use up to 20 of a-z, 0-9 and '-'.")
    try:
        with interruptible(), fresh_folder(arguments.folder / arguments.name) as folder:
            _run(arguments.name, folder, arguments.dags.absolute())
    except KeyboardInterrupt:
        print("\nEverything that this cluster started has been stopped.")
        return 0
    except ProcessError as error:
        print(f"\nmake cluster failed: {error}", file=sys.stderr)
        return 1
    return 0


def _run(name: str, folder: Path, dags: Path) -> None:
    """Start everything, say where it is, and wait for the interrupt.

    Raises:
        ProcessError: Something did not start, or ended by itself.
    """
    began = time.monotonic()
    with ExitStack() as stack, telling_of_the_end():
        print(f"starting cluster {name}; this takes about two minutes on two cores", flush=True)
        postgres = stack.enter_context(PostgreSQL(folder / "postgres"))
        connection = stack.enter_context(shared_servers(folder.parent))
        shared = connection.servers
        redis, mariadb = shared.redis(folder / "redis"), shared.mariadb(folder / "mariadb")
        archive = f"file://{folder / 'archive'}"
        cluster = stack.enter_context(
            Cluster(
                folder / "airflow",
                deployment_id=name,
                postgres=postgres,
                broker=f"redis://:{redis.password}@{redis.host}:{redis.port}/{shared.queue}",
                connections={"iam_mysql": mariadb.airflow_uri, "iam_redis": redis.airflow_uri},
                dags_folders=[dags],
                options={"AIRFLOW__IAM_WATCHER__ARCHIVE": archive},
            )
        )
        with redis.client(db=shared.queue) as client:
            client.flushdb()  # the messages of an earlier cluster
        cluster.finish(cluster.spawn("db-migrate", "db", "migrate"))
        cluster.start()
        write_commands(folder / "bin", cluster, mariadb, redis)
        cluster.wait_healthy()
        programs = Path(os.path.relpath(folder / "bin"))
        print(
            f"healthy after {time.monotonic() - began:.0f} s; "
            f"Airflow's components use {cluster.memory() / 2**30:.1f} GiB of memory\n\n"
            f"  Watchers    {cluster.url}/plugin/watchers\n"
            f"  Airflow     {cluster.url}  (a load balancer before two API servers)\n"
            f"  user        {cluster.user}\n"
            f"  password    {cluster.password}\n"
            f"  deployment  {name}\n"
            f"  watchers    {dags}\n"
            "              A new watcher is paused: nothing runs by itself.\n"
            f"  PostgreSQL  127.0.0.1:{postgres.port}, of this cluster\n"
            f"  MariaDB     127.0.0.1:{mariadb.port}, shared by all clusters here\n"
            f"  Redis       127.0.0.1:{redis.port}, shared; this queue is in database {shared.queue}\n"
            f"  archive     {archive}\n"
            f"  logs        {cluster.home}\n\n"
            "The process of each component, to end it or stop it:\n\n"
            + "".join(f"  {component:14} {cluster.processes[component].pid}\n" for component in COMPONENTS)
            + "\nIn another terminal, in this folder:\n\n"
            f"  {programs}/airflow dags test disable_inactive_users -c '{{\"dry_run\": true}}'\n"
            f"  {programs}/locks list\n"
            f"  {programs}/mariadb\n"
            f"  {programs}/redis-cli\n"
            "  make cluster NAME=another\n\n"
            "Ctrl-C ends it.",
            flush=True,
        )
        _watch(cluster, postgres, connection)


def _watch(cluster: Cluster, postgres: PostgreSQL, connection: Connection) -> None:
    """Say which component ended, until the interrupt; a cluster goes on without one.

    Raises:
        ProcessError: A server ended.
    """
    gone: set[str] = set()
    while connection.alive and postgres.process.running:
        for name, process in cluster.processes.items():
            if not process.running and name not in gone:
                gone.add(name)
                print(f"{name} ended (exit code {process.returncode}); see {process.log}", flush=True)
        time.sleep(1)
    if not connection.alive:
        raise ProcessError("the shared Redis or MariaDB ended")
    raise postgres.process.failure(f"ended by itself with exit code {postgres.process.returncode}")


if __name__ == "__main__":
    sys.exit(main())
