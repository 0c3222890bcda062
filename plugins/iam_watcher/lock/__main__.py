"""List the locks, show one, or release one by force: `python -m iam_watcher.lock`."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from iam_watcher.arguments import connection_id
from iam_watcher.errors import IamWatcherError, LockError
from iam_watcher.log_lines import one_line

if TYPE_CHECKING:
    from redis import Redis

    from iam_watcher.lock.holder import Holder


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says and return the exit status: 0, or 1 after an error."""
    parser = argparse.ArgumentParser(prog="python -m iam_watcher.lock", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands `list`, `show` and `release`, with their arguments."""
    connections: dict[str, Any] = {
        "action": "append",
        "type": partial(connection_id, "the value", raises=argparse.ArgumentTypeError),
        "help": "Airflow connection of the locks' Redis; give it several times if a lock has several servers "
        "(default: iam_redis)",
    }
    parser.add_argument("--redis-conn-id", **connections)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "list", help="the locks that are held, of all locks that a Watcher used in the last day"
    )
    show = commands.add_parser(
        "show", help="who holds a lock, the progress of its work, and earlier forced releases"
    )
    release = commands.add_parser(
        "release",
        help="release a lock by force. The holder notices that within 2 s: a table job then stops at its "
        "next safe point, and any other task gets SIGTERM; its process ends 5 s later at the latest. The run "
        "can't acquire the lock again for twice its lease",
    )
    for command in commands.choices.values():
        # Under another name: it would replace what is given before the command.
        command.add_argument("--redis-conn-id", dest="more_conn_ids", **connections)
    for command in (show, release):
        command.add_argument("key", help="key of the lock in Redis, such as clean")
    release.add_argument("--reason", required=True, help="why you release the lock; Redis stores the reason")
    release.add_argument("--by", default=_account(), help="who releases the lock (default: your account)")


def run(given: argparse.Namespace) -> int:
    """Do what the parsed arguments say and return the exit status: 0, or 1 after an error."""
    from redis import RedisError

    try:
        return _run(given)
    except (IamWatcherError, ValueError, RedisError) as error:
        print(one_line(str(error)), file=sys.stderr)  # noqa: T201  a command line
        return 1


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


def _fate(freed: Holder) -> str:
    if freed.since is None:
        return "The Go iam-watcher does not notice that: it works on"
    return (
        "If it is still alive, it notices that within 2 s: a table job then stops at its next safe point, "
        "and any other task gets SIGTERM"
    )


def _client(conn_id: str) -> Redis:
    from airflow.sdk.exceptions import AirflowNotFoundException

    from iam_watcher.lock.clients import redis_client

    try:
        return redis_client(conn_id)
    except AirflowNotFoundException:
        raise LockError(
            f"the connection {conn_id!r} is not defined in this shell's Airflow. Set AIRFLOW_HOME or "
            f"AIRFLOW_CONN_{conn_id.upper()} as your Airflow has it, or name another with --redis-conn-id"
        ) from None


def _run(given: argparse.Namespace) -> int:
    from iam_watcher.airflow_internals.tasks import use_stored_connections
    from iam_watcher.lock import progress
    from iam_watcher.lock.admin import inspection
    from iam_watcher.lock.admin.force_release import force_release

    use_stored_connections()
    conn_ids = dict.fromkeys([*(given.redis_conn_id or []), *(given.more_conn_ids or [])])
    clients = [_client(name) for name in conn_ids or ["iam_redis"]]
    lines: list[object]
    if given.command == "list":
        lines = list(inspection.holders(clients)) or ["no lock is held"]
    elif given.command == "show":
        holder = inspection.holder(clients, given.key)
        lines = [holder or f"{given.key!r} is held by nobody"]
        lines += [task for task in progress.read(clients, given.key) if holder and task.owner == holder.owner]
        lines += [
            f"released by force at {past.at} by {past.by}: {past.reason} (holder: {past.owner})"
            for past in inspection.history(clients, given.key)
        ]
    else:
        freed = force_release(clients, given.key, by=given.by, reason=given.reason)
        lines = [f"released by force: {given.key!r}, which {freed.owner} held. {_fate(freed)}"]
        lines += [inspection.holder(clients, given.key) or f"{given.key!r} is held by nobody now"]
    print(*(one_line(str(line)) for line in lines), sep="\n")  # noqa: T201  a command line
    return 0


if __name__ == "__main__":
    sys.exit(main())
