"""Reads the settings file of the Go iam-watcher, whose two jobs have an operator each."""

from __future__ import annotations

from typing import Any

from iam_watcher.importer.job import Call, Found, Job, NotTranslated, Refused
from iam_watcher.importer.values import days, documents
from iam_watcher.settings import REPLACED

_DRY_RUN = (
    "dry_run=True: it counts and lists what it would change; remove that when the run report is as you expect"
)
_EXEMPT = "administrators, and names such as svc-*, are left alone; the Go watcher disables them, too"
_ALSO = "the file can also be used as it is, by the watchers in dags/: see [iam_watcher] settings_file"
_JOBS: dict[str, tuple[str, str, Call, tuple[str, ...]]] = {
    "clean": (
        "max-reserve-days",
        "clean_policy_audit",
        Call(
            "iam_watcher.jobs.purge_rows",
            "PurgeRowsOperator",
            {"task_id": "purge", "table": "policy_audit", "age_column": "deletedAt", "archive": "configured"},
        ),
        ("rows are archived first, if [iam_watcher] archive names a location",),
    ),
    "task": (
        "max-inactive-days",
        "disable_inactive_users",
        Call(
            "iam_watcher.jobs.disable_users",
            "DisableInactiveUsersOperator",
            {"task_id": "disable", "exempt_names": ("svc-*",)},
        ),
        (_EXEMPT,),
    ),
}
_DAYS = {"clean": "older_than_days", "task": "max_inactive_days"}


def read(text: str, source: str) -> Found:
    """Return the jobs of a settings file.

    Raises:
        NotTranslated: it is not YAML, or not that file.
    """
    data = next(iter(documents(text)), None)
    if not isinstance(data, dict) or not isinstance(data.get("watcher"), dict):
        raise NotTranslated("expected the settings file of iam-watcher, with the key 'watcher'")
    found = Found(notes=[f"{key}: use {REPLACED[key]}" for key in data if key in REPLACED])
    found.notes.append(_ALSO)
    for name, block in data["watcher"].items():
        place = f"watcher.{name}"
        try:
            found.entries.append(_job(name, {} if block is None else block, place, source))
        except NotTranslated as reason:
            found.entries.append(Refused(place, str(reason)))
    return found


def _job(name: Any, block: Any, place: str, source: str) -> Job:
    if name not in _JOBS:
        raise NotTranslated(f"it is not known; expected {' or '.join(_JOBS)}")
    key, watcher_name, task, differences = _JOBS[name]
    if not isinstance(block, dict):
        raise NotTranslated("expected a mapping")
    arguments = {**task.arguments, _DAYS[name]: days(block, key), "dry_run": True}
    return Job(
        place=place,
        source=f"the job {name} of {source}",
        suggestion=watcher_name,
        watcher={"schedule": "@every 1d", "lock": name},
        task=Call(task.module, task.name, arguments),
        differences=(*differences, _DRY_RUN),
    )
