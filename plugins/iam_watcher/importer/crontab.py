"""Reads a crontab as cron does: a user's, or the system's form with a user in each line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from iam_watcher.importer import names, vixie
from iam_watcher.importer.cron_variables import FOR_CRON, mail_to, not_kept, variable
from iam_watcher.importer.job import (
    MISSED,
    Call,
    Found,
    Job,
    NotTranslated,
    Refused,
    secrets_in,
    secrets_in_command,
    secrets_in_text,
)

_FIELDS = 5
_OVERLAP = (
    "cron starts a job although it is still running; a watcher skips that time "
    '(overlap="allow" with max_active_runs=2 or more keeps it)'
)
_MAIL = "cron mails what a command prints; a watcher keeps it in the task's log, and mails when the run fails"
_CRON_TZ = "CRON_TZ is read as cronie reads it: Debian's cron takes it for a variable of the command"


@dataclass(frozen=True)
class Crontab:
    """A crontab, and what is not written in it.

    Attributes:
        name: of the file, for the watcher files.
        timezone: of the machine on which cron runs.
        system: whether each line has a user, as in /etc/crontab and /etc/cron.d.
        user: whose crontab it is.
    """

    name: str
    timezone: str
    system: bool = False
    user: str | None = None

    def read(self, text: str) -> Found:
        """Return the jobs of a crontab."""
        found = Found(notes=[_OVERLAP, MISSED.format("cron")])
        variables: dict[str, str] = {}
        # Not splitlines(), which also splits at characters that cron takes for text.
        for number, line in enumerate(text.split("\n"), 1):
            content = line.lstrip(" \t")
            if not content.strip() or content.startswith("#"):
                continue
            place = f"line {number}"
            try:
                if found_variable := variable(content):
                    name, value = found_variable
                    variables[name] = value
                    if name == "CRON_TZ" and _CRON_TZ not in found.notes:
                        found.notes.append(_CRON_TZ)
                    continue
                job = _Line(self, place, content, variables)
                found.entries.append(job.job())
            except NotTranslated as reason:
                found.entries.append(Refused(place, str(reason)))
            else:
                if job.mailto and _MAIL not in found.notes:
                    found.notes.append(_MAIL)
        return found


@dataclass
class _Line:
    """A line with a command, and the variables that hold for it."""

    crontab: Crontab
    place: str
    text: str
    variables: dict[str, str]
    differences: list[str] = field(default_factory=list)
    mailto: str = ""

    def job(self) -> Job:
        schedule, rest = self._schedule()
        if rest.endswith("\r"):
            rest = rest[:-1]
            self.differences.append("the carriage return at the line's end (of Windows) is left out")
        user = self.crontab.user
        if self.crontab.system:
            user, rest = word(rest, "a user before the command")
        if not rest.strip():
            raise NotTranslated("there is no command behind the schedule")
        command, stdin = split_input(rest)
        if "\0" in rest or not command.strip():
            raise NotTranslated("the command is empty, or has a NUL character")
        if command.endswith("\\"):
            self.differences.append(
                "the line ends with a backslash; a crontab has no continuation: the next line is read alone"
            )
        variables = {name: value for name, value in self.variables.items() if name not in FOR_CRON}
        # cron sets it itself.
        variables.pop("LOGNAME", None)
        self.differences += secrets_in(variables)
        self.differences += secrets_in_command(command)
        self.differences += secrets_in_text("the standard input", stdin)
        self.differences += not_kept(self.variables)
        if user:
            self.differences.append(f"the worker runs it by sudo as {user}: allow that on each worker")
        arguments = {
            "task_id": "run",
            "command": command,
            "shell": self.variables.get("SHELL") or None,
            "user": user,
            "env": variables,
            "stdin": stdin,
        }
        task = Call(
            "iam_watcher.jobs.command",
            "CommandOperator",
            {key: value for key, value in arguments.items() if value},
        )
        return Job(
            place=self.place,
            source=f"{self.place} of {self.crontab.name}",
            suggestion=names.of_command(command),
            watcher={"schedule": schedule, "dst": "vixie", "default_args": {"retries": 0}, **self._mail()},
            task=task,
            differences=tuple(self.differences),
        )

    def _schedule(self) -> tuple[str, str]:
        """Return the spec, and what stands behind it."""
        # cronie and SUSE's cron: the line is not to be logged in syslog.
        text = self.text.removeprefix("-")
        zone = self.variables.get("CRON_TZ") or self.crontab.timezone
        if text.startswith("@"):
            nickname, rest = word(text, "a nickname")
            if nickname.lower() == "@reboot":
                raise NotTranslated(
                    "@reboot has no meaning in Airflow, which runs on several machines; use systemd"
                )
            if nickname.lower() not in vixie.NICKNAMES:
                raise NotTranslated(
                    f"{nickname!r} is not known; expected one of {', '.join(vixie.NICKNAMES)}"
                )
            spec = vixie.NICKNAMES[nickname.lower()]
        else:
            fields, rest = [], text
            for _ in range(_FIELDS):
                one, rest = word(rest, "five fields, then the command")
                fields.append(one)
            spec, differences = vixie.spec(fields)
            self.differences += differences
        return vixie.checked(f"CRON_TZ={zone} {spec}", splay=True), rest

    def _mail(self) -> dict[str, Call]:
        self.mailto = self.variables.get("MAILTO", "").strip()
        mail, differences = mail_to(self.mailto)
        self.differences += differences
        return mail


def split_input(text: str) -> tuple[str, str]:
    r"""Return the command of a line, and its standard input: what stands behind the first `%`.

    Further ones are line breaks, and `\%` is a percent sign. Other backslashes stay. As in do_command.c of
    cronie, a backslash that another one escapes does not escape a `%` in the command, but does in the input.
    """
    parts: list[str] = []
    for match in re.finditer(r"\\?.|\\", text, re.DOTALL):
        if match[0] == "%":
            return "".join(parts), _input(text[match.end() :])
        parts.append("%" if match[0] == r"\%" else match[0])
    return "".join(parts), ""


def _input(text: str) -> str:
    """Return what cron writes to a command: with a line break at the end, but for an empty last line."""
    given = re.sub(r"\\?%", lambda match: "\n" if match[0] == "%" else "%", text)
    # cron does not count backslashes at the end as text of the last line.
    return given if given.rstrip("\\")[-1:] in ("", "\n") else f"{given}\n"


def word(text: str, expected: str) -> tuple[str, str]:
    """Return the first word of a text, and what stands behind it.

    Raises:
        NotTranslated: there is none; the message has what was expected.
    """
    first, *rest = re.split(r"[ \t]+", text.lstrip(" \t"), maxsplit=1)
    if not first.strip():
        raise NotTranslated(f"expected {expected}")
    return first, rest[0] if rest else ""
