"""Airflow's options: those of [iam_watcher], the settings file, and the visibility time-out of Celery."""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING

from airflow.sdk.configuration import conf

from iam_watcher import settings
from iam_watcher.doctor.finding import Finding
from iam_watcher.errors import DeploymentIdError, SettingsError
from iam_watcher.lock.deployment import deployment_id, standby_delay
from iam_watcher.lock.release import ReleaseLockOperator
from iam_watcher.lock.sensor import RedisLockSensor
from iam_watcher.provider_info import get_provider_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iam_watcher.doctor.watchers import Watchers

TRANSPORT = "celery_broker_transport_options"
VISIBILITY = f"[{TRANSPORT}] visibility_timeout"
VISIBILITY_DEFAULT = 86400  # seconds; what Airflow's Celery provider takes if the option is missing
SECTION = "iam_watcher"
VARIABLE = f"AIRFLOW__{SECTION.upper()}__"
_LIKE_OUR_SECTION = re.compile(r"iam[\W_]*watchers?", re.IGNORECASE)
_LIKE_OUR_VARIABLE = re.compile(rf"AIRFLOW_*{_LIKE_OUR_SECTION.pattern}[\W_]*(.*)", re.IGNORECASE)
IN_REDIS = ("redis://", "rediss://", "sentinel://")


def check_deployment() -> Iterator[Finding]:
    """Check `[iam_watcher] deployment_id` and `standby_delay`."""
    for read in (deployment_id, standby_delay):
        try:
            read()
        except DeploymentIdError as error:
            yield Finding(str(error))


def check_options() -> Iterator[Finding]:
    """Check that Airflow's environment and configuration file have no option of ours that nothing reads."""
    known = sorted(get_provider_info()["config"][SECTION]["options"])
    read = {VARIABLE + name.upper() for name in known}
    for variable in sorted(os.environ.keys() - read):
        found = _LIKE_OUR_VARIABLE.fullmatch(variable)
        # With single underscores it may be a variable of another program, such as of a service of Kubernetes.
        if found and (variable.startswith("AIRFLOW__") or len(_nearest(found[1], known)) == 1):
            right = [VARIABLE + name.upper() for name in _nearest(found[1], known)]
            yield Finding(f"The variable {variable} is not known, and nothing reads it. {_instead(right)}")
    for section in conf.sections():
        if section == SECTION:
            for name in sorted(set(conf.options(section)) - set(known)):
                yield Finding(
                    f"Airflow's configuration file has the option [{SECTION}] {name}, which is not known. "
                    f"Nothing reads it. {_instead(_nearest(name, known))}"
                )
        elif _LIKE_OUR_SECTION.fullmatch(section):
            yield Finding(
                f"Airflow's configuration file has the section [{section}], which nothing reads. Write "
                f"[{SECTION}] instead"
            )


def _nearest(name: str, known: list[str]) -> list[str]:
    """Return the one known name that is most like a name, or all known names if none is like it."""
    return difflib.get_close_matches(name.lower(), known, n=1) or known


def _instead(names: list[str]) -> str:
    if len(names) == 1:
        return f"Write {names[0]} instead, or remove it"
    return f"Remove it, or write one of {', '.join(names)} instead"


def check_settings_file() -> Iterator[Finding]:
    """Check that the settings file is there and valid, or that none is named."""
    if (path := settings.find()) is not None:
        try:
            settings.load(path)
        except SettingsError as error:
            yield Finding(f"{error}. Correct the file, or [iam_watcher] settings_file")


def check_visibility_timeout(watchers: Watchers) -> Iterator[Finding]:
    """Check that Celery's Redis gives no task of a watcher to a second worker while the first runs it."""
    if "CeleryExecutor" not in (conf.get("core", "executor", fallback="") or ""):
        return
    if not (conf.get("celery", "broker_url", fallback="") or "").startswith(IN_REDIS):
        return
    given = conf.get(TRANSPORT, "visibility_timeout", fallback=VISIBILITY_DEFAULT)
    try:
        seconds = float(given)
    except (TypeError, ValueError):
        yield Finding(f"{VISIBILITY} is {given!r}; expected seconds, such as {VISIBILITY_DEFAULT}")
        return
    again = f"After {VISIBILITY} = {seconds:g} s, Redis gives a running task to a second worker"
    limits = {
        f"{task.dag_id}.{task.task_id}": task.execution_timeout
        for task in watchers.tasks
        if not isinstance(task, RedisLockSensor | ReleaseLockOperator)  # They are short by construction.
    }
    known = {name: limit.total_seconds() for name, limit in limits.items() if limit is not None}
    longest = max(known, key=known.__getitem__, default="")
    if longest and known[longest] >= seconds:
        yield Finding(
            f"{again}. The task {longest} may run for {known[longest]:g} s (execution_timeout). "
            "Set visibility_timeout to more than that"
        )
    endless = sorted(limits.keys() - known.keys())
    if endless and seconds < VISIBILITY_DEFAULT:
        yield Finding(
            f"{again}. These tasks have no execution_timeout: {', '.join(endless)}. Set visibility_timeout "
            f"to {VISIBILITY_DEFAULT} or more, or give each task an execution_timeout"
        )
