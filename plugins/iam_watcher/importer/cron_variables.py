"""Reads the variables of a crontab and of an anacrontab: which are for cron itself, and what they change."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from iam_watcher.arguments import is_mail_address
from iam_watcher.importer.job import Call, NotTranslated, mails

if TYPE_CHECKING:
    from collections.abc import Mapping

# As cron's load_env: quotes around the name or the value are optional, and nothing is expanded.
_VARIABLE = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^\s="']+))\s*=\s*(.*?)\s*""", re.DOTALL)
# For cron itself; the command does not get them.
FOR_CRON = (
    "MAILTO",
    "MAILFROM",
    "CONTENT_TYPE",
    "CONTENT_TRANSFER_ENCODING",
    "CRON_TZ",
    "RANDOM_DELAY",
    "SHELL",
)
# Of these, those whose value has no effect in a watcher, and why.
_NOT_KEPT = {
    "RANDOM_DELAY": "runs start on the minute",
    "MAILFROM": "the sender is that of the connection smtp_default",
    "CONTENT_TYPE": "Airflow decides the form of a mail",
    "CONTENT_TRANSFER_ENCODING": "Airflow decides the form of a mail",
}


def variable(line: str) -> tuple[str, str] | None:
    """Return the name and the value of a line `NAME = value`, or None for any other line.

    Raises:
        NotTranslated: the quotes around the value do not match.
    """
    match = _VARIABLE.fullmatch(line)
    if match is None:
        return None
    name, value = match[1] or match[2] or match[3], match[4]
    if value[:1] in ('"', "'"):
        if len(value) == 1 or value[-1] != value[0] or value[0] in value[1:-1]:
            raise NotTranslated(
                f"the quotes around the value of {name} do not match; the variable is not set"
            )
        value = value[1:-1]
    return (name, value) if name else None


def not_kept(variables: Mapping[str, str]) -> list[str]:
    """Return a difference for each variable that changes what cron does, and not what a watcher does."""
    return [
        f"{name}={value} is not kept: {why}"
        for name, why in _NOT_KEPT.items()
        if (value := variables.get(name))
    ]


def mail_to(mailto: str) -> tuple[dict[str, Call], list[str]]:
    """Return the argument of a Watcher for a value of MAILTO, and what is different."""
    given = [name for name in re.split(r"[,;\s]+", mailto) if name]
    addresses = [name for name in given if is_mail_address(name)]
    local = [name for name in given if name not in addresses]
    text = f"MAILTO has {', '.join(local)}, a mailbox of that machine: only addresses get the mail"
    return mails(addresses) if addresses else {}, [text] if local else []
