"""Checks a Watcher's arguments when its file is parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from iam_watcher.errors import WatcherError
from iam_watcher.lock import Lock
from iam_watcher.lock.key import MAX_KEY_LENGTH, key_of
from iam_watcher.timetables import Overlap

OF_THE_LOCK = frozenset(field.name for field in fields(Lock))
REFUSED = {
    "dagrun_timeout": (
        "would skip the release together with the rest when it strikes, and the lock would stay until its "
        "lease ends; use execution_timeout on a task and the lock's wait"
    ),
    "catchup": "is not for a Watcher: it works on now and has no past to catch up with",
    "end_date": (
        "would make a run green that is triggered after it: Airflow leaves all tasks out. Remove it, and "
        "pause the watcher when its time is over"
    ),
    "fail_fast": (
        "turns a failed run green: Airflow skips the tasks after the one that failed, and judges the run by "
        "them. Remove it; tasks after one that failed don't run anyway"
    ),
    "task_group": "would give `acquire` and `release` other ids; make the group inside the `with`",
}


def check(
    dag_id: str, *, lock: object, overlap: str, conf_keys: object, dag_arguments: Mapping[str, Any]
) -> None:
    """Return if these arguments are valid for a Watcher.

    Raises:
        WatcherError: an argument is not valid; says which, its value and what to do.
    """
    if not isinstance(dag_id, str):
        raise WatcherError(f"dag_id={dag_id!r}; expected a text")
    if overlap not in get_args(Overlap):
        raise WatcherError(f"overlap={overlap!r}; expected one of {', '.join(get_args(Overlap))}")
    if not isinstance(lock, Lock | str | None):
        raise WatcherError(f"lock={lock!r}; expected a Lock, the key of one, or None")
    if misplaced := sorted(OF_THE_LOCK.intersection(dag_arguments)):
        raise WatcherError(f"{', '.join(misplaced)} belongs to the lock: lock=Lock({misplaced[0]}=...)")
    for name, reason in REFUSED.items():
        if (value := dag_arguments.get(name)) not in (None, False):
            raise WatcherError(f"{name}={value!r} {reason}")
    for name, value in (("tags", dag_arguments.get("tags")), ("conf_keys", conf_keys)):
        _texts(name, value)
    _params(dag_arguments.get("params"))
    _default_args(dag_arguments.get("default_args"))
    start_date = dag_arguments.get("start_date")
    if start_date is not None and not isinstance(start_date, datetime):
        raise WatcherError(f"start_date={start_date!r}; expected a datetime")
    _active_runs(overlap, dag_arguments.get("max_active_runs", 1))
    if lock is not None:
        _key(dag_id, Lock(lock) if isinstance(lock, str) else lock, per_tick=overlap == "allow")


def _texts(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, str):
        raise WatcherError(f"{name}={value!r} is one text; expected a list of texts: {name}=[{value!r}]")
    if not isinstance(value, list | tuple | set | frozenset) or not all(
        isinstance(one, str) for one in value
    ):
        raise WatcherError(f"{name}={value!r}; expected a list of texts")


def _params(params: object) -> None:
    if params is not None and not isinstance(params, Mapping):
        raise WatcherError(f"params={params!r}; expected a dict of name -> default value or Param")


def check_start(start_date: datetime | None) -> None:
    """Return if a DAG has begun. Airflow has read the date, and knows its time zone.

    Raises:
        WatcherError: it begins in the future.
    """
    if start_date is not None and start_date > datetime.now(UTC):
        raise WatcherError(
            f"start_date={start_date} is in the future: a run that is triggered before it would be green, "
            "because Airflow leaves all tasks out. Remove it, and unpause the watcher when it should begin"
        )


def _default_args(default_args: object) -> None:
    if default_args is None:
        return
    if not isinstance(default_args, dict):
        raise WatcherError(f"default_args={default_args!r}; expected a dict")
    retries = default_args.get("retries")
    if retries is not None and not str(retries).isdecimal():  # Airflow takes a number's text and None, too.
        raise WatcherError(f"default_args has retries={retries!r}; expected a whole number of 0 or more")
    delay = default_args.get("retry_delay")
    if delay is not None and not isinstance(delay, timedelta | int | float):
        raise WatcherError(f"default_args has retry_delay={delay!r}; expected a timedelta, or seconds")


def _active_runs(overlap: str, runs: object) -> None:
    # Runs that overlap are two at least.
    if overlap == "allow" and not (isinstance(runs, int) and runs >= 2):  # noqa: PLR2004
        raise WatcherError(f"overlap='allow' needs max_active_runs of 2 or more, got {runs!r}")
    if overlap != "allow" and runs != 1:
        raise WatcherError(f"max_active_runs={runs!r}; expected 1, or overlap='allow' with it")


def _key(dag_id: str, lock: Lock, *, per_tick: bool) -> None:
    key = key_of(lock.key, dag_id, datetime.now(UTC) if per_tick else None)
    if len(key) > MAX_KEY_LENGTH:
        raise WatcherError(
            f"its lock would have the key {key!r}, of {len(key)} characters; expected {MAX_KEY_LENGTH} at "
            'most. Give it a shorter one: lock="..."'
        )
