"""Check this machine's deployment, and say what is wrong and what to do: `python -m iam_watcher.doctor`."""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from typing import TYPE_CHECKING

from iam_watcher.log_lines import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from iam_watcher.doctor.finding import Finding

    Check = tuple[str, Callable[[], Iterator[Finding]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is wrong.

    Returns:
        0 if nothing is wrong, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m iam_watcher.doctor", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--redis-conn-id",
        action="append",
        help="Airflow connection of a Redis to check, instead of the connections of the watchers' locks; "
        "give it several times for several servers",
    )


def run(given: argparse.Namespace) -> int:
    """Do what the parsed arguments say and return the exit status: 0 if nothing is wrong, else 1."""
    # What Airflow logs while it parses DAG files would stand between the findings, which have the errors.
    logging.disable(logging.CRITICAL)
    try:
        return _report(_checks(given))
    finally:
        logging.disable(logging.NOTSET)


def _report(checks: Iterator[Check]) -> int:
    wrong = unknown = 0
    for name, check in checks:
        findings = list(check())
        wrong += sum(not one.unknown for one in findings)
        unknown += sum(one.unknown for one in findings)
        for line in map(str, findings) if findings else ["good"]:
            _print(f"{name}: {line}")
    _print(f"{wrong} wrong, {unknown} not checked" if wrong or unknown else "Nothing is wrong")
    return 1 if wrong else 0


def _checks(given: argparse.Namespace) -> Iterator[Check]:
    from iam_watcher.airflow_internals.tasks import use_stored_connections
    from iam_watcher.doctor import archive, configuration, database_server, plugin, redis_server
    from iam_watcher.doctor.watchers import find_watchers

    use_stored_connections()
    yield "deployment", configuration.check_deployment
    yield "settings file", configuration.check_settings_file
    yield "plugin", plugin.check_plugin
    watchers = find_watchers()
    yield "watcher files", lambda: iter(watchers.findings)
    yield "Celery", partial(configuration.check_visibility_timeout, watchers)
    for conn_id in given.redis_conn_id or watchers.redis_conn_ids:
        yield f"Redis {conn_id}", partial(redis_server.check_redis, conn_id)
    for conn_id in watchers.mysql_conn_ids:
        yield f"database {conn_id}", partial(database_server.check_database, conn_id, watchers)
    yield "archive", partial(archive.check_archives, watchers)


def _print(line: str) -> None:
    print(one_line(line), flush=True)  # noqa: T201  a command line


if __name__ == "__main__":
    sys.exit(main())
