"""Reads Kubernetes' CronJobs: their schedules. What a container does, a person has to move."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from iam_watcher.importer import names, vixie
from iam_watcher.importer.job import Found, Job, NotTranslated, Refused, secrets_in_command
from iam_watcher.importer.values import ALLOW, AT_ONCE, documents, each, get, kind_name, retries, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_RETRIES = 6  # Kubernetes' default of backoffLimit
_MISSED = (
    "without startingDeadlineSeconds, Kubernetes makes up for the latest missed time at any age; a watcher "
    "does within half of its interval, at most an hour: set missed_grace for more"
)


def read(text: str, source: str, timezone: str) -> Found:
    """Return the CronJobs of a YAML text; other objects are listed as not translated.

    Args:
        text: one or more documents.
        source: the file's name, for the watcher files.
        timezone: of the control plane, for CronJobs that name none.

    Raises:
        NotTranslated: it is not YAML.
    """
    found = Found()
    for number, data in enumerate(_objects(documents(text)), 1):
        place = f"object {number}"
        try:
            name = _name(data)
            place = f"object {number} ({name!r})"
            found.entries.append(_job(data, name, place, source, timezone))
        except NotTranslated as reason:
            found.entries.append(Refused(place, str(reason)))
    return found


def _objects(found: list[Any]) -> Iterator[Any]:
    for data in found:
        items = (data.get("items") or []) if _is_list(data) else None
        if isinstance(items, list):
            yield from items
        elif data is not None:
            yield data


def _is_list(data: Any) -> bool:
    kind = data.get("kind") if isinstance(data, dict) else None
    return isinstance(kind, str) and kind.endswith("List")


def _name(data: Any) -> str:
    if not isinstance(data, dict):
        raise NotTranslated(f"it is {kind_name(type(data))}, not a CronJob")
    if _is_list(data):
        get(data, "items", list, [])
    if (kind := get(data, "kind", str, "")) != "CronJob":
        raise NotTranslated(f"it is a {kind}, not a CronJob" if kind else "it has no kind")
    if not (name := get(get(data, "metadata", dict, {}), "name", str, "")):
        raise NotTranslated("it has no name")
    return name


def _job(data: Mapping[str, Any], name: str, place: str, source: str, timezone: str) -> Job:
    spec = get(data, "spec", dict, {})
    job = get(get(spec, "jobTemplate", dict, {}), "spec", dict, {})
    pod = get(get(job, "template", dict, {}), "spec", dict, {})
    schedule = get(spec, "schedule", str, "")
    zone = get(spec, "timeZone", str, "") or timezone
    if not schedule.startswith(("TZ=", "CRON_TZ=", "@every")):
        schedule = f"CRON_TZ={zone} {schedule}"
    watcher: dict[str, Any] = {"schedule": vixie.checked(schedule, "robfig")}
    differences = []
    if "@every" in schedule:
        differences.append("@every counts from 1970-01-01 00:00 UTC, not from the CronJob's creation")
    policy = get(spec, "concurrencyPolicy", str, "Allow")
    if policy == "Allow":
        watcher |= ALLOW
        differences.append(f"concurrencyPolicy Allow: at most {AT_ONCE} runs at a time")
    elif policy == "Forbid":
        # When the job ends, the controller starts one for the latest time that came meanwhile.
        watcher["overlap"] = "delay"
    else:
        raise NotTranslated(f"concurrencyPolicy {policy}: no watcher ends a run that is going for a new one")
    if grace := seconds(spec, "startingDeadlineSeconds"):
        watcher["missed_grace"] = grace
    else:
        differences.append(_MISSED)
    if get(spec, "suspend", bool, default=False):
        differences.append("it is suspended: leave the watcher paused")
    task_arguments: dict[str, Any] = {"retries": retries(job, "backoffLimit", _RETRIES)}
    if limit := seconds(job, "activeDeadlineSeconds"):
        task_arguments["execution_timeout"] = limit
    watcher["default_args"] = task_arguments
    containers = [text for one in each(pod, "containers", dict) for text in _container(one)]
    kept_not = [key for key in ("parallelism", "completions") if job.get(key) not in (None, 1)]
    kept_not += ["initContainers"] if pod.get("initContainers") else []
    differences += [
        *(f"not kept: {key}" for key in kept_not),
        "the task only fails, until you put into it what the container does",
        *containers,
    ]
    return Job(
        place=place,
        source=f"the CronJob {name} of {source}",
        suggestion=names.of_text(name),
        watcher=watcher,
        function=("missing", {"what": f"put here what the container of the CronJob {name} does"}),
        differences=tuple(differences),
    )


def _container(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a container is made of. Of its variables the names alone: a value may be a secret."""
    if image := get(data, "image", str, ""):
        yield f"the container's image: {image}"
    given = {key: each(data, key, str) for key in ("command", "args")}
    has_secret = bool(secrets_in_command(shlex.join([*given["command"], *given["args"]])))
    for key, words in given.items():
        if words:
            shown = "not listed, because it looks as if there is a secret in it" if has_secret else words
            yield f"the container's {key}: {shown}"
    if variables := [get(one, "name", str, "") for one in each(data, "env", dict)]:
        yield f"the container's env: {', '.join(variables)}"
    if data.get("envFrom"):
        yield "not kept: envFrom of a container"
