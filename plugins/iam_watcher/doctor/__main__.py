"""Check this machine, compare it with others, and say what to do: `python -m iam_watcher.doctor`."""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from typing import TYPE_CHECKING

from iam_watcher.arguments import connection_id
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
        type=partial(connection_id, "the value", raises=argparse.ArgumentTypeError),
        help="Airflow connection of a Redis to check, instead of the connections of the watchers' locks; "
        "give it several times for several servers",
    )


def run(given: argparse.Namespace) -> int:
    """Do what the parsed arguments say and return the exit status: 0 if nothing is wrong, else 1."""
    # What Airflow logs while it parses DAG files would stand between the findings, which have the errors.
    logging.disable(logging.CRITICAL)
    try:
        faults: list[str] = []
        return _report(_checks(given, faults), faults)
    finally:
        logging.disable(logging.NOTSET)


def _report(checks: Iterator[Check], faults: list[str]) -> int:
    """Print what each check found. Add the names of those that found something wrong to `faults`."""
    wrong = unknown = 0
    for name, check in checks:
        findings = list(dict.fromkeys(check()))  # The tasks of a mapped one may all have the same fault.
        if any(not one.unknown for one in findings):
            faults.append(name)
        wrong += sum(not one.unknown for one in findings)
        unknown += sum(one.unknown for one in findings)
        for line in map(str, findings) if findings else ["good"]:
            _print(f"{name}: {line}")
    _print(f"{wrong} wrong, {unknown} not checked" if wrong or unknown else "Nothing is wrong")
    return 1 if wrong else 0


def _checks(given: argparse.Namespace, faults: list[str]) -> Iterator[Check]:
    from iam_watcher.airflow_internals.tasks import use_stored_connections
    from iam_watcher.doctor import archive, configuration, database_server, plugin, redis_server
    from iam_watcher.doctor.watchers import find_watchers

    use_stored_connections()
    yield "deployment", configuration.check_deployment
    yield "options", configuration.check_options
    yield "settings file", configuration.check_settings_file
    yield "plugin", plugin.check_plugin
    watchers = find_watchers()
    yield "watcher files", lambda: iter(watchers.findings)
    yield "Celery", partial(configuration.check_visibility_timeout, watchers)
    redis_conn_ids = given.redis_conn_id or watchers.redis_conn_ids
    for conn_id in redis_conn_ids:
        yield f"Redis {conn_id}", partial(redis_server.check_redis, conn_id)
    for conn_id in watchers.mysql_conn_ids:
        yield f"database {conn_id}", partial(database_server.check_database, conn_id, watchers)
    yield "archive", partial(archive.check_archives, watchers)
    yield from _compare(redis_conn_ids, archive.locations(watchers), faults)


def _compare(redis_conn_ids: Sequence[str], archives: Sequence[str], faults: list[str]) -> Iterator[Check]:
    """Compare this machine with those on which the doctor has run. All other checks must have been made."""
    from airflow.sdk.configuration import conf
    from sqlalchemy.exc import SQLAlchemyError

    from iam_watcher.doctor.comparison import compare, missing
    from iam_watcher.doctor.finding import Finding
    from iam_watcher.doctor.machine import exchange, this_machine
    from iam_watcher.doctor.marks import leave_marks, remove_files

    marks = leave_marks(redis_conn_ids, archives)
    here = this_machine(marks, faults)
    # What another check has reported is not said twice.
    findings = [
        Finding(f"{name} could not be compared: {why}", unknown=True)
        for name, why in marks.errors.items()
        if f"Redis {name}" not in faults and not (name in archives and "archive" in faults)
    ]
    with_workers = "CeleryExecutor" in (conf.get("core", "executor", fallback="") or "")
    try:
        others, running = exchange(here, with_workers=with_workers)
    except SQLAlchemyError as error:
        remove_files(marks.mark, marks.archives)  # No machine would look for the mark.
        text = (
            "No other machine could be compared, because this machine can't use Airflow's database "
            f"({type(error).__name__}). Check [database] sql_alchemy_conn"
        )
        yield "other machines", lambda: iter([*findings, Finding(text, unknown=True)])
        return
    yield "other machines", lambda: iter([*findings, *missing(running)])
    for other in others:
        yield f"machine {other.host}", partial(compare, here, other)


def _print(line: str) -> None:
    print(one_line(line), flush=True)  # noqa: T201  a command line


if __name__ == "__main__":
    sys.exit(main())
