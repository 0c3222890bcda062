"""Reads what a job of dkron does: the settings of its executor."""

from __future__ import annotations

import base64
import re
import shlex
from typing import TYPE_CHECKING, Any

from iam_watcher.importer.job import NotTranslated, secrets_in, secrets_in_command, secrets_in_text
from iam_watcher.importer.values import duration, get, number, texts_in

if TYPE_CHECKING:
    from collections.abc import Mapping

# The keys of executor_config that a watcher keeps.
_SHELL = frozenset(("command", "shell", "env", "cwd", "su", "timeout", "payload"))
_HTTP = frozenset(("method", "url", "headers", "body", "timeout", "expectCode", "expectBody"))
_TRUE = ("1", "t", "T", "true", "TRUE", "True")  # as Go reads a text


def shell(config: Mapping[str, Any], differences: list[str]) -> dict[str, Any]:
    """Return the arguments of a CommandOperator.

    Args:
        config: the job's executor_config.
        differences: what is different in the watcher is added to this list.

    Raises:
        NotTranslated: no CommandOperator does the same.
    """
    command = get(config, "command", str, "")
    if not command.strip():
        raise NotTranslated("its command is empty")
    if get(config, "shell", str, "") not in _TRUE:
        command = _words(command)
    pairs = [pair.partition("=") for pair in get(config, "env", str, "").split(",") if pair]
    env = {name.strip(): value for name, _, value in pairs}
    stdin = _payload(config)
    differences += secrets_in(env)
    differences += secrets_in_command(command)
    differences += secrets_in_text("the standard input", stdin)
    differences += _not_kept(config, _SHELL)
    user, colon, group = get(config, "su", str, "").partition(":")
    if colon and not user:
        raise NotTranslated(f"su is {colon + group!r}; expected a user, or a user and a group: user:group")
    if user:
        differences.append(f"the worker runs it by sudo as {user}: allow that on each worker")
    if group:
        differences.append(f"not kept: the group {group} of su: the command runs in {user}'s groups")
    arguments = {
        "command": command,
        "user": user,
        "env": env,
        "cwd": get(config, "cwd", str, ""),
        "stdin": stdin,
        "execution_timeout": duration(config, "timeout"),
    }
    return {key: value for key, value in arguments.items() if value}


def http(config: Mapping[str, Any], differences: list[str]) -> tuple[str, dict[str, Any]]:
    """Return the name of a body in `render`, with the values that it uses.

    Args:
        config: the job's executor_config.
        differences: what is different in the watcher is added to this list.

    Raises:
        NotTranslated: no such body does the same.
    """
    url = get(config, "url", str, "")
    if not url:
        raise NotTranslated("its url is empty")
    differences += _not_kept(config, _HTTP)
    pairs = [text.partition(":") for text in texts_in(config, "headers")]
    values: dict[str, Any] = {
        "method": get(config, "method", str, "GET").upper(),
        "url": url,
        "headers": {name.strip(): value.strip() for name, _, value in pairs},
        "body": get(config, "body", str, "") or None,
        "timeout": number(config, "timeout", 30),
        "codes": [code.strip() for code in get(config, "expectCode", str, "").split(",") if code.strip()],
    }
    differences += secrets_in(values["headers"])
    differences += secrets_in_text("the url", url)
    differences += secrets_in_text("the body", values["body"] or "")
    # Without codes, dkron accepts each of them.
    body = "request_codes" if values["codes"] else "request"
    pattern = get(config, "expectBody", str, "")
    if not pattern:
        return body, values
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise NotTranslated(f"expectBody {pattern!r} is no regular expression of Python: {error}") from None
    return f"{body}_pattern", {**values, "pattern": pattern}


def _not_kept(config: Mapping[str, Any], known: frozenset[str]) -> list[str]:
    return [
        f"not kept: {key} of executor_config"
        for key, value in config.items()
        if key not in known and value not in (None, "")
    ]


def _words(command: str) -> str:
    """Return a command that dkron splits into words itself, with the words quoted for a shell.

    Raises:
        NotTranslated: dkron's rules for the words differ from those of a shell here.
    """
    if found := _of_a_shell(command):
        raise NotTranslated(
            f"its command has an unquoted {found}, which dkron reads in another way than a shell: it may "
            'leave out the rest of the command. If a shell is to read it, set "shell": "true" in the job'
        )
    try:
        return shlex.join(shlex.split(command))
    except ValueError as error:
        raise NotTranslated(f"its command can't be split into words: {error}") from None


def _of_a_shell(command: str) -> str:
    """Return the first character of a command that dkron and a shell read differently."""
    quote = ""
    for character in command:
        if character == "\\" and quote != "'":
            return "backslash"
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in ";&|<>()`":
            return character
    return ""


def _payload(config: Mapping[str, Any]) -> str:
    """Return the text that dkron writes to the standard input of a command.

    Raises:
        NotTranslated: it is not text in base64. The message doesn't show it: there may be passwords in it.
    """
    # dkron's decoder skips the ends of lines, and refuses each other character that is not of base64.
    given = re.sub(r"[\r\n]", "", get(config, "payload", str, ""))
    try:
        text = base64.b64decode(given, validate=True).decode()
    except ValueError:
        text = "\0"
    if "\0" in text:
        raise NotTranslated("its payload is not UTF-8 text in base64: write the watcher by hand")
    return text
