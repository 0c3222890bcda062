"""Reads the jobs of dkron, as its `/v1/jobs` answers."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from iam_watcher.arguments import is_mail_address
from iam_watcher.importer import dkron_executors, names, vixie
from iam_watcher.importer.job import MISSED, Call, Found, Job, NotTranslated, Refused, mails
from iam_watcher.importer.values import (
    ALLOW,
    AT_ONCE,
    documents,
    get,
    retries,
    shown_name,
    text_or_empty,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_ASSET = "dkron-job-{}"
_ZONED = re.compile(r"(CRON_)?TZ=")
_NOT_KEPT = {
    "ephemeral": "ephemeral (dkron deletes the job after it worked once)",
    "expires_at": "expires_at: pause the watcher when its time is over",
    "processors": "processors: the output is in the task's log",
}


def read(text: str, source: str, timezone: str, prefix: str = "") -> Found:
    """Return the jobs in a JSON text.

    Args:
        text: a list of jobs, or one.
        source: the file's name, for the watcher files.
        timezone: of dkron's servers, for jobs that name none.
        prefix: before the name of each asset, so that the jobs of two dkrons don't start each other.

    Raises:
        NotTranslated: there are no jobs in it.
    """
    data = next(iter(documents(text)), None)
    given = data if isinstance(data, list) else [data]
    jobs = [job for job in given if isinstance(job, dict)]
    if given and not jobs:
        raise NotTranslated("expected the JSON of /v1/jobs: a list of jobs")
    found = Found(
        notes=["a command gets the variables in env= only, and none of the worker's", MISSED.format("dkron")]
    )
    parents = {text_or_empty(job, "parent_job") for job in jobs} - {""}
    parents |= {text_or_empty(job, "name") for job in jobs if job.get("dependent_jobs")}
    translated: set[str] = set()
    children: dict[int, str] = {}
    for position, job in enumerate(given, 1):
        name = shown_name(job, "name")
        place = f"job {position} ({name})" if name else f"job {position}"
        if not isinstance(job, dict):
            found.entries.append(Refused(place, "it is no mapping, as the jobs of /v1/jobs are"))
            continue
        try:
            is_parent = text_or_empty(job, "name") in parents
            one = _Job(job, place, source, timezone, prefix=prefix, is_parent=is_parent).read()
            found.entries.append(one)
            translated.add(text_or_empty(job, "name"))
            children[position - 1] = text_or_empty(job, "parent_job")
        except NotTranslated as reason:
            found.entries.append(Refused(place, str(reason)))
    for position, parent in children.items():
        entry = found.entries[position]
        if parent and parent not in translated and isinstance(entry, Job):
            asset = prefix + _ASSET.format(parent)
            missing = f"parent_job {parent!r} has no watcher here: runs start when a task updates {asset!r}"
            found.entries[position] = replace(entry, differences=(*entry.differences, missing))
    return found


class _Job:
    def __init__(
        self,
        data: Mapping[str, Any],
        place: str,
        source: str,
        timezone: str,
        *,
        prefix: str,
        is_parent: bool,
    ) -> None:
        self._data = data
        self._place = place
        self._source = source
        self._timezone = timezone
        self._prefix = prefix
        self._is_parent = is_parent
        self._differences: list[str] = []

    def read(self) -> Job:
        data = self._data
        name = get(data, "name", str, "")
        if not name:
            raise NotTranslated("it has no name")
        if get(data, "disabled", bool, default=False):
            self._differences.append("dkron has it disabled: leave the watcher paused")
        self._differences += [f"not kept: {text}" for key, text in _NOT_KEPT.items() if data.get(key)]
        watcher = {**self._schedule(), **self._overlap(), **self._people()}
        watcher["default_args"] = {"retries": retries(data, "retries", 0)}
        executor = get(data, "executor", str, "")
        config = texts(data, "executor_config")
        task, function = None, None
        if executor == "shell":
            task = self._shell(config)
        elif executor == "http":
            function = self._http(config)
        else:
            raise NotTranslated(f"its executor is {executor!r}; expected shell or http")
        return Job(
            place=self._place,
            source=f"the job {name} of {self._source}",
            suggestion=names.of_text(name),
            watcher=watcher,
            task=task,
            function=function,
            differences=tuple(self._differences),
        )

    def _schedule(self) -> dict[str, Any]:
        data = self._data
        if parent := get(data, "parent_job", str, ""):
            return {"schedule": [Call("airflow.sdk", "Asset", {"": self._prefix + _ASSET.format(parent)})]}
        text = get(data, "schedule", str, "").strip()
        if text == "@manually" or not text:
            return {"schedule": None}
        if text.startswith("@after"):
            raise NotTranslated(
                f"{text!r}: dkron's @after runs a job once; use @at, whose time must be to come"
            )
        if text == "@minutely":
            text = "0 * * * * *"
        if "~" in text:
            self._differences.append(
                f"in {text!r}, the watcher's name decides the values of ~: they differ from those in dkron"
            )
        if "@every" in text:
            self._differences.append("@every counts from 1970-01-01 00:00 UTC, not from the start of dkron")
        own_clock = _ZONED.match(text) or text.startswith(("@every", "@at"))
        spec = text if own_clock else f"CRON_TZ={self._zone(text)} {text}"
        found: dict[str, Any] = {"schedule": vixie.checked(spec, "robfig", splay=True)}
        if starts := get(data, "starts_at", str, ""):
            try:
                datetime.fromisoformat(starts)
            except ValueError:
                raise NotTranslated(f"starts_at is {starts!r}; expected an RFC 3339 time") from None
            self._differences.append(f"starts_at {starts}: unpause the watcher after this time, not before")
        return found

    def _zone(self, text: str) -> str:
        """Return the zone of a schedule: dkron gives none of a job's own to `@daily` and its like."""
        own = get(self._data, "timezone", str, "")
        if not text.startswith("@"):
            return own or self._timezone
        if own not in ("", self._timezone):
            self._differences.append(f"timezone {own}: dkron ignores it for {text}, and so does the watcher")
        return self._timezone

    def _overlap(self) -> dict[str, Any]:
        concurrency = get(self._data, "concurrency", str, "") or "allow"
        if concurrency == "forbid":
            return {}
        if concurrency != "allow":
            raise NotTranslated(f"concurrency is {concurrency!r}; expected allow or forbid")
        if get(self._data, "parent_job", str, ""):
            return {}
        self._differences.append(f"concurrency allow: at most {AT_ONCE} runs at a time")
        return dict(ALLOW)

    def _people(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if tags := sorted(str(tag) for tag in get(self._data, "metadata", dict, {})):
            found["tags"] = tags
        if self._data.get("tags"):
            self._differences.append(
                "not kept: tags (which servers run it): use queue= for a group of workers"
            )
        if email := get(self._data, "owner_email", str, ""):
            if is_mail_address(email):
                found |= mails([email])
            else:
                self._differences.append("not kept: owner_email, which is not one mail address")
        return found

    def _shell(self, config: Mapping[str, Any]) -> Call:
        arguments = {"task_id": "run", **dkron_executors.shell(config, self._differences)}
        if self._is_parent:
            asset = Call("airflow.sdk", "Asset", {"": self._prefix + _ASSET.format(self._data["name"])})
            arguments["outlets"] = [asset]
        return Call("iam_watcher.jobs.command", "CommandOperator", arguments)

    def _http(self, config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        if self._is_parent:
            raise NotTranslated("others run after it, and it is an HTTP request: write the watcher by hand")
        return dkron_executors.http(config, self._differences)
