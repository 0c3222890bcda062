"""Writes small programs into the folder of `make run`: each runs a client of its private servers.

The programs contain passwords, so only their owner can read them. A command line would show a password to
every user of the machine.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

from dev.processes import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dev.airflow import Airflow
    from dev.servers import MariaDB, Redis

SCRIPT = """#!/bin/sh
# Made by `make run` or `make cluster`, for its private servers; it has passwords inside.
{exports}
exec {command} "$@"
"""


def write_commands(folder: Path, airflow: Airflow, mariadb: MariaDB, redis: Redis) -> None:
    """Write the programs airflow, locks, mariadb and redis-cli into a folder."""
    folder.mkdir(mode=0o700)
    ours = {name: value for name, value in airflow.env.items() if os.environ.get(name) != value}
    plugins = airflow.env["AIRFLOW__CORE__PLUGINS_FOLDER"]
    _write(folder / "airflow", airflow.command(), ours)
    _write(folder / "locks", [sys.executable, "-m", "iam_watcher.lock"], {**ours, "PYTHONPATH": plugins})
    _write(
        folder / "mariadb",
        [
            require("mariadb", "mariadb-client-core"),
            "--no-defaults",
            f"--host={mariadb.host}",
            f"--port={mariadb.port}",
            f"--user={mariadb.admin_user}",
            "--database=iam",
        ],
        {"MYSQL_PWD": mariadb.admin_password},
    )
    _write(
        folder / "redis-cli",
        [require("redis-cli", "redis-tools"), "-h", redis.host, "-p", str(redis.port)],
        {"REDISCLI_AUTH": redis.password},
    )


def _write(path: Path, command: Sequence[str], variables: Mapping[str, str]) -> None:
    path.touch(mode=0o700)
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items()))
    path.write_text(SCRIPT.format(exports=exports, command=shlex.join(command)))
