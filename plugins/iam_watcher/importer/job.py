"""A job of another system as the importer reads it, on its way to a watcher file, and the secrets in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.importer import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# In the name of a variable, a header or an option whose value is a secret.
_SECRET = re.compile(
    r"pass(?!iv)|pwd|secret|token|credential|private|authorization|(access|api|auth|encryption|ssh)[-_.]?key"
    r"|(?<![a-z])(keys?|pw)(?![a-z])"
)
_FILE = re.compile(r"(file|path|dir|cmd|command)$|^-*no-")
_REFERENCE = r"(?!\$|file:|env:|fd:|@)"
# A name with a value: in an assignment, an option, a header, a query or JSON.
_PAIR = re.compile(rf"""(?<![\w.-])([\w.-]+)["']?\s*[:=]\s*["']?{_REFERENCE}[^\s"'`=&,}})\0]""")
_IN_URL = re.compile(r"(?<!mailto):[^\s@/:$\0][^\s@/:]*@(?!sha256:)|https?://[^\s/@$\0][^\s/@]*@")
_USER = r"-[uU]|--user|--proxy-user"
_LOGIN = re.compile(rf"(?:{_USER})=?(?!\d+:\d+\Z)\w[^\s:%]*[:%](?![$/])[^\s\0].*", re.DOTALL)
_LONG = re.compile(r"--[A-Za-z][\w-]*|-(key|store)?pass(word|wd|in|out)?")
# A program, its option for a password, and whether the password can be the next word.
_OPTIONS = tuple(
    (re.compile(program), option, separate)
    for program, option, separate in (
        (r"(mysql|mariadb|mariabackup|xtrabackup|innobackupex|mycli|7z).*", "-p", False),
        (r"sshpass|mongo.*", "-p", True),
        (r"(redis|valkey)-cli", "-a", True),
        (r"ldap\w+", "-w", True),
        (r"zip|unzip|mosquitto_\w+", "-P", True),
    )
)
# Of a system that does not run a job later: {} is its name.
MISSED = (
    "{} does not make up for a time at which it was down; a watcher runs the latest missed time if that is "
    "less than half of its interval ago, at most an hour (missed_grace=timedelta(0) turns this off)"
)
_READER = "which people who may see the DAG can read"


class NotTranslated(Exception):  # noqa: N818  an outcome, not a fault
    """There is no watcher for this job; the message says why."""


@dataclass(frozen=True)
class Call:
    """A call in a watcher file: `name(keyword=value, …)`, with `name` imported from `module`."""

    module: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """What a watcher file is made of.

    Attributes:
        place: its place, for the report: `line 7`, or the job's name.
        source: its place, for the file: `line 7 of crontab`.
        suggestion: a name for the watcher, see `names`.
        watcher: arguments of `Watcher`.
        task: the call that makes its task.
        differences: what is another than it was there.
        function: instead of `task`: the name of a body in `render`, with the values that it uses.
    """

    place: str
    source: str
    suggestion: str
    watcher: Mapping[str, Any]
    task: Call | None = None
    function: tuple[str, Mapping[str, Any]] | None = None
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """A job, or something else in a file, that has no watcher."""

    place: str
    reason: str


@dataclass
class Found:
    """What a reader found in a file.

    Attributes:
        entries: in the file's order.
        notes: what is true of all of them.
    """

    entries: list[Job | Refused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def mails(addresses: list[str]) -> dict[str, Call]:
    """Return the argument of a Watcher that mails failed runs."""
    to = [Call("iam_watcher", "Mail", {"": address}) for address in addresses]
    return {"notify": Call("iam_watcher", "Notify", {"to": to})}


def secrets_in(variables: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a difference for variables that hold secrets, by their names, or by a password in a URL."""
    found = [name for name, value in variables.items() if _is_secret(name) or _IN_URL.search(str(value))]
    if not found:
        return ()
    return (f"{', '.join(found)} is in the DAG file now, {_READER}: keep the value in an Airflow connection",)


def secrets_in_command(command: str) -> tuple[str, ...]:
    """Return a difference for a shell command with words that look like a secret. It doesn't show them."""
    return _difference("the command", _of_command(command))


def secrets_in_text(what: str, text: str) -> tuple[str, ...]:
    """Return a difference for a text with something in it that looks like a secret.

    Args:
        what: what the text is: `the url`.
        text: the text, which is not shown.
    """
    return _difference(what, _of_text(text))


def _is_secret(name: str) -> bool:
    return _SECRET.search(name.lower()) is not None


def _difference(what: str, found: Iterator[str]) -> tuple[str, ...]:
    if not (shown := ", ".join(dict.fromkeys(found))):
        return ()
    where = "in an Airflow connection, or in a file that only the user of the job can read"
    return (f"{what} has what looks like a secret ({shown}), {_READER}: keep it {where}",)


def _of_text(text: str) -> Iterator[str]:
    for match in _PAIR.finditer(text):
        if _is_secret(match[1]) and not _FILE.search(match[1].lower()):
            yield match[1]
    if _IN_URL.search(text):
        yield "user:…@"


def _of_command(command: str) -> Iterator[str]:
    texts = [command]
    for text in texts:  # which grows meanwhile
        commands, inner = names.split(text)
        for words in commands:
            program = names.program(words)[:1]
            options = [(one, separate) for name, one, separate in _OPTIONS if name.fullmatch(_base(program))]
            for word, after in zip(words, [*words[1:], ""], strict=True):
                yield from _of_text(word)
                yield from _of_option(word, after, options)
        # A text in quotes can be a command: sh -c "…".
        texts += [*inner, *(word for words in commands for word in words if re.search(r"\s", word))]


def _base(program: list[str]) -> str:
    return program[0].rpartition("/")[2] if program else ""


def _of_option(word: str, after: str, options: list[tuple[str, bool]]) -> Iterator[str]:
    """Yield an option that has a secret behind it, in the same word or in the next one."""
    follows = re.match(rf"{_REFERENCE}[^-\0]", after) is not None
    if follows and _LONG.fullmatch(word) and _is_secret(word) and not _FILE.search(word.lower()):
        yield word
    if _LOGIN.fullmatch(f"{word}{after}" if re.fullmatch(_USER, word) else word):
        yield "-u user:…"
    for option, separate in options:
        if re.match(rf"{option}{_REFERENCE}[^\0]", word) or (separate and word == option and follows):
            yield f"{option}…"
