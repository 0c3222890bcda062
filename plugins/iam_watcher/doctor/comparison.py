"""Compares this machine with another one of the same Airflow."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from iam_watcher.doctor.clocks import check_clock
from iam_watcher.doctor.finding import Finding
from iam_watcher.doctor.marks import KEPT, has_file
from iam_watcher.errors import ArchiveError, LockError
from iam_watcher.lock.admin.marks import has_mark

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from iam_watcher.doctor.machine import Machine

RESTART = "restart the components"


def compare(here: Machine, there: Machine) -> Iterator[Finding]:
    """Compare this machine with another one.

    Args:
        here: this machine.
        there: the other machine, whose marks are looked for.
    """
    yield from _values(here, there)
    yield from _redis(here, there)
    yield from _archives(here, there)
    if there.faults:
        yield Finding(
            f"The doctor found something wrong on {there.host}: {', '.join(there.faults)}. Run the doctor on "
            f"{there.host} to see what is wrong there"
        )


def missing(running: Mapping[str, set[str]]) -> Iterator[Finding]:
    """Say on which machines the doctor has not run.

    Args:
        running: name of a machine -> the components that run there.
    """
    for host, components in sorted(running.items()):
        yield Finding(
            f"{host} ({', '.join(sorted(components))}) could not be compared: the doctor has not run there "
            f"within the last {KEPT.total_seconds() / 60:.0f} minutes. Run the doctor on {host} too",
            unknown=True,
        )


def _values(here: Machine, there: Machine) -> Iterator[Finding]:
    for option, one, other in (
        ("deployment_id", here.deployment_id, there.deployment_id),
        ("standby_delay", here.standby_delay, there.standby_delay),
        ("archive", here.archive, there.archive),
    ):
        if one != other:
            yield Finding(
                f"[iam_watcher] {option} is {one or 'missing'} on this machine and {other or 'missing'} on "
                f"{there.host}. Set the same value on all machines of this Airflow, and {RESTART}"
            )
    if here.plugin != there.plugin:
        yield Finding(
            f"iam-watcher is {here.plugin} on this machine and {there.plugin} on {there.host}. Install the "
            f"same version on all machines of this Airflow, and {RESTART}"
        )
    if here.settings_file != there.settings_file:
        yield Finding(
            f"The settings file has other values on this machine than on {there.host}. Put the same file on "
            "all machines of this Airflow"
        )


def _redis(here: Machine, there: Machine) -> Iterator[Finding]:
    differences = []
    for conn_id in sorted(here.redis_ahead.keys() & there.redis_ahead.keys()):
        try:
            is_same = has_mark(conn_id, there.mark)
        except LockError as error:
            yield Finding(f"The Redis of {there.host} could not be compared: {error.facts}", unknown=True)
            continue
        if is_same:
            differences.append(here.redis_ahead[conn_id] - there.redis_ahead[conn_id])
        else:
            yield Finding(
                f"The connection {conn_id!r} leads to another Redis on this machine than on {there.host}, so "
                "two runs can have the same lock; or this Redis has lost its keys. Define the connection "
                f"alike on all machines, and {RESTART}. Then run the doctor on both machines again"
            )
    if differences:
        yield from check_clock(there.host, timedelta(seconds=differences[0]))


def _archives(here: Machine, there: Machine) -> Iterator[Finding]:
    for location in sorted({*here.marked} & {*there.marked}):
        try:
            is_same = has_file(location, there.mark)
        except ArchiveError as error:
            yield Finding(f"The archive of {there.host} could not be compared: {error}", unknown=True)
            continue
        if not is_same:
            yield Finding(
                f"The archive location {location} is not the same folder on this machine as on {there.host}: "
                "a file that the doctor wrote there is missing here. Mount the same folder on both "
                "machines, or use an object store"
            )
