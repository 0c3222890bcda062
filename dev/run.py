"""`make run`: run a complete Airflow with the watchers on private servers, until Ctrl-C.

All data is in one folder below .run/. Each start has new sample rows.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

from dev.airflow import ROOT, Airflow
from dev.commands import write_commands
from dev.folder import fresh_folder
from dev.processes import Process, ProcessError, interruptible, telling_of_the_end
from dev.servers import SAMPLE_FILE, MariaDB, Redis

SLOW_DAGS = ROOT / "dev" / "dags"
# A tenth of them is younger than the watchers keep rows. MariaDB alone has such a sequence.
MORE_ROWS = (
    "INSERT INTO policy_audit (id, name, username, policyShadow, deletedAt)"
    " SELECT 1000000000 + seq, 'more', 'admin', REPEAT('x', 300), NOW() - INTERVAL MOD(seq, 10) * 100 DAY"
    " FROM seq_1_to_1000000000 LIMIT %(rows)s"
)


def main() -> int:
    """Run until Ctrl-C and return the exit status: 0 then, 1 after a failure."""
    parser = argparse.ArgumentParser(prog="make run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=ROOT / ".run" / "run", help="where everything is kept")
    parser.add_argument("--dags", type=Path, default=ROOT / "dags", help="folder of the watchers")
    parser.add_argument("--rows", type=int, default=0, help="more audit rows, and a watcher that takes long")
    arguments = parser.parse_args()
    try:
        with interruptible(), fresh_folder(arguments.folder):
            _run(arguments.folder.absolute(), arguments.dags.absolute(), arguments.rows)
    except KeyboardInterrupt:
        print("\nEverything that was started has been stopped.")
        return 0
    except ProcessError as error:
        print(f"\nmake run failed: {error}", file=sys.stderr)
        return 1
    return 0


def _run(folder: Path, dags: Path, rows: int) -> None:
    """Start everything, say where it is, and wait for the interrupt.

    Raises:
        ProcessError: Something did not start, or ended by itself.
    """
    began = time.monotonic()
    with ExitStack() as stack, telling_of_the_end():
        print("starting a private MariaDB, a private Redis and Airflow; this takes half a minute", flush=True)
        archive = f"file://{(folder / 'archive').absolute()}"
        airflow = stack.enter_context(
            Airflow(
                folder / "airflow",
                deployment_id="run",
                dags_folders=[dags, *([SLOW_DAGS] if rows else [])],
                options={
                    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
                    "AIRFLOW__IAM_WATCHER__ARCHIVE": archive,
                },
            )
        )
        migration = airflow.spawn("db-migrate", "db", "migrate")
        mariadb = stack.enter_context(MariaDB(folder / "mariadb"))
        redis = stack.enter_context(Redis(folder / "redis"))
        mariadb.create_schema()
        mariadb.run_script(SAMPLE_FILE)
        if rows:
            with closing(mariadb.connect()) as connection, connection.cursor() as cursor:
                cursor.execute(MORE_ROWS, {"rows": rows})
                connection.commit()
        airflow.connect(iam_mysql=mariadb.airflow_uri, iam_redis=redis.airflow_uri)
        airflow.finish(migration)
        airflow.start()
        write_commands(folder / "bin", airflow, mariadb, redis)
        airflow.wait_healthy()
        programs = Path(os.path.relpath(folder / "bin"))
        print(
            f"healthy after {time.monotonic() - began:.0f} s\n\n"
            f"  Watchers  {airflow.url}/plugin/watchers\n"
            f"  Airflow   {airflow.url}\n"
            f"  user      {airflow.user}\n"
            f"  password  {airflow.password}\n"
            f"  watchers  {dags}\n"
            "            A new file is seen within 30 s. A new watcher is paused: nothing runs by itself.\n"
            f"  MariaDB   127.0.0.1:{mariadb.port}, database iam, with sample rows\n"
            f"  Redis     127.0.0.1:{redis.port}\n"
            f"  archive   {archive}  (undo records, archives, lists of dry runs)\n"
            f"  logs      {airflow.home}\n\n"
            "In another terminal, in this folder:\n\n"
            f"  {programs}/airflow dags test disable_inactive_users -c '{{\"dry_run\": true}}'\n"
            "            a dry run; the watcher stays paused\n"
            f"  {programs}/locks list\n"
            "            who holds which lock (python -m iam_watcher.lock)\n"
            f"  {programs}/mariadb\n"
            f"  {programs}/redis-cli\n\n"
            "Ctrl-C ends it.",
            flush=True,
        )
        _watch([mariadb.process, redis.process, *airflow.processes.values()])


def _watch(processes: list[Process]) -> None:
    """Wait until one of the processes ends, which none should.

    Raises:
        ProcessError: One did; with the end of its log.
    """
    while True:
        for process in processes:
            if not process.running:
                raise process.failure(f"ended by itself with exit code {process.returncode}")
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
