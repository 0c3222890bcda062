"""Reads Kubernetes' CronJobs: their schedules. What a container does, a person has to move."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from iam_watcher.importer import names, vixie
from iam_watcher.importer.job import Found, Job, NotTranslated, Refused
from iam_watcher.importer.values import ALLOW, AT_ONCE, documents, get

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_RETRIES = 6  # Kubernetes' default of backoffLimit


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
        if isinstance(data, dict) and str(data.get("kind", "")).endswith("List"):
            yield from data.get("items") or []
        elif data is not None:
            yield data


def _name(data: Any) -> str:
    if not isinstance(data, dict) or data.get("kind") != "CronJob":
        kind = data.get("kind") if isinstance(data, dict) else type(data).__name__
        raise NotTranslated(f"it is a {kind}, not a CronJob")
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
    policy = get(spec, "concurrencyPolicy", str, "Allow")
    if policy == "Allow":
        watcher |= ALLOW
        differences.append(f"concurrencyPolicy Allow: at most {AT_ONCE} runs at a time")
    elif policy != "Forbid":
        raise NotTranslated(f"concurrencyPolicy {policy}: no watcher ends a run that is going for a new one")
    if grace := get(spec, "startingDeadlineSeconds", int, 0):
        watcher["missed_grace"] = timedelta(seconds=grace)
    if get(spec, "suspend", bool, default=False):
        differences.append("it is suspended: leave the watcher paused")
    task_arguments: dict[str, Any] = {"retries": get(job, "backoffLimit", int, _RETRIES)}
    if limit := get(job, "activeDeadlineSeconds", int, 0):
        task_arguments["execution_timeout"] = timedelta(seconds=limit)
    watcher["default_args"] = task_arguments
    containers = [text for one in get(pod, "containers", list, []) for text in _container(one)]
    differences += [
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


def _container(data: Any) -> Iterator[str]:
    """Yield what a container is made of. Of its variables the names alone: a value may be a secret."""
    if not isinstance(data, dict):
        raise NotTranslated("its containers are not mappings")
    for key in ("image", "command", "args"):
        if value := data.get(key):
            yield f"the container's {key}: {value}"
    if variables := [str(one.get("name")) for one in data.get("env") or [] if isinstance(one, dict)]:
        yield f"the container's env: {', '.join(variables)}"
