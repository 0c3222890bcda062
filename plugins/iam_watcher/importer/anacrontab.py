"""Reads an anacrontab: jobs that run once in so many days, whenever the machine is up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from iam_watcher.importer import names, vixie
from iam_watcher.importer.cron_variables import FOR_CRON, mail_to, not_kept, variable
from iam_watcher.importer.crontab import word
from iam_watcher.importer.job import (
    Call,
    Found,
    Job,
    NotTranslated,
    Refused,
    secrets_in,
    secrets_in_command,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FIXED = ("START_HOURS_RANGE", "NO_MAIL_OUTPUT")  # of anacron itself, besides those of cron
_DAYS = {"@daily": 1, "@weekly": 7, "@monthly": 31, "@yearly": 366, "@annually": 366}
_FIELDS = {1: "* * *", 7: "* * 0", 31: "1 * *", 366: "1 1 *"}  # the day fields of a cron spec
_NAMED = {7: "on Sunday", 31: "on the first day of the month", 366: "on January 1"}
_LONGEST = 10_000  # days
_NOTE = (
    "anacron runs a job that is due when the machine is up; a watcher makes up for a missed time for as long "
    "as the period (missed_grace)"
)


@dataclass(frozen=True)
class Anacrontab:
    """An anacrontab, and what is not written in it.

    Attributes:
        name: of the file, for the watcher files.
        timezone: of the machine on which anacron runs.
        user: who runs it; anacron: root.
    """

    name: str
    timezone: str
    user: str = "root"

    def read(self, text: str) -> Found:
        """Return the jobs of an anacrontab."""
        found = Found(notes=[_NOTE])
        variables: dict[str, str] = {}
        for number, line in _lines(text):
            if not line or line.startswith("#"):
                continue
            place = f"line {number}"
            try:
                if assignment := variable(line):
                    variables[assignment[0]] = assignment[1]
                else:
                    found.entries.append(self._job(place, line, variables))
            except NotTranslated as reason:
                found.entries.append(Refused(place, str(reason)))
        return found

    def _job(self, place: str, line: str, variables: Mapping[str, str]) -> Job:
        period, rest = word(line, "a period, a delay, a name and a command")
        delay, rest = word(rest, "a delay in minutes behind the period")
        name, command = word(rest, "a name behind the delay")
        if not command.strip() or "\0" in command:
            raise NotTranslated("there is no command behind the name, or it has a NUL character")
        days = _days(period)
        if not re.fullmatch(r"[0-9]{1,5}", delay):
            raise NotTranslated(f"the delay is {delay!r}; expected a number of minutes")
        spec, differences = self._schedule(days, int(delay), variables)
        mail, about_mail = mail_to(variables.get("MAILTO", ""))
        env = {key: value for key, value in variables.items() if key not in (*FOR_CRON, *_FIXED, "LOGNAME")}
        differences += [*not_kept(variables), *about_mail, *secrets_in(env), *secrets_in_command(command)]
        differences.append(f"the worker runs it by sudo as {self.user}: allow that on each worker")
        arguments: dict[str, Any] = {
            "task_id": "run",
            "command": command,
            "shell": variables.get("SHELL"),
            "user": self.user,
            "env": env,
        }
        return Job(
            place=place,
            source=f"{name} of {self.name}",
            suggestion=names.of_text(name),
            watcher={
                "schedule": vixie.checked(spec),
                **({} if spec.startswith("@every") else {"dst": "vixie"}),
                "missed_grace": timedelta(days=days),
                "default_args": {"retries": 0},
                **mail,
            },
            task=Call(
                "iam_watcher.jobs.command",
                "CommandOperator",
                {key: value for key, value in arguments.items() if value},
            ),
            differences=tuple(differences),
        )

    def _schedule(self, days: int, delay: int, variables: Mapping[str, str]) -> tuple[str, list[str]]:
        """Return the spec: the first hour in which anacron starts jobs, and the delay."""
        hours = variables.get("START_HOURS_RANGE", "0-24")
        match = re.fullmatch(r"\s*(\d{1,2})\s*-\s*(\d{1,2})\s*", hours)
        if match is None or int(match[1]) > 23:  # noqa: PLR2004  hours
            raise NotTranslated(f"START_HOURS_RANGE is {hours!r}; expected two hours, such as 3-22")
        if days not in _FIELDS:
            without = f"without the delay of {delay} minutes"
            if "START_HOURS_RANGE" in variables:
                without += " and without START_HOURS_RANGE"
            return f"@every {days}d", [f"every {days} days counts from 1970-01-01 00:00 UTC, {without}"]
        late = f"START_HOURS_RANGE={hours} is the first hour only: a missed time is made up for at any hour"
        differences = [late] if "START_HOURS_RANGE" in variables else []
        minutes = 60 * int(match[1]) + delay
        if minutes >= 24 * 60:
            raise NotTranslated(f"the delay is {delay} minutes; expected a time on the same day")
        if days in _NAMED:
            differences.append(f"it runs {_NAMED[days]}: anacron counts from the last run")
        zone = f"CRON_TZ={self.timezone}"
        return f"{zone} {minutes % 60} {minutes // 60} {_FIELDS[days]}", differences


def _days(period: str) -> int:
    if period.lower() in _DAYS:
        return _DAYS[period.lower()]
    if not re.fullmatch(r"[0-9]{1,5}", period) or not 1 <= int(period) <= _LONGEST:
        raise NotTranslated(
            f"the period is {period!r}; expected 1 to {_LONGEST} days, or one of {', '.join(_DAYS)}"
        )
    return int(period)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line with its number. A line that ends with a backslash goes on in the next one."""
    began, whole = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        began = began or number
        if line.endswith("\\"):
            whole += line[:-1]
            continue
        yield began, f"{whole}{line}".strip(" \t")
        began, whole = 0, ""
    if whole:
        yield began, whole.strip(" \t")
