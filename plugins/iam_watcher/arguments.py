"""Checks the jobs' arguments: literals when the DAG file is parsed, templates when they are rendered.

It has a short function for each kind of value, and there are many kinds: hence the length.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from iam_watcher.errors import JobArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

MOST_DAYS = 36_500
LONGEST_IDENTIFIER = 64
CONNECTION_ID = (
    "the id of an Airflow connection, not a URL and not a template: up to 250 letters, digits, and any of "
    ". _ - # ! ( ) \\"
)
# Airflow allows ":" and "/", too. But then a URL without its scheme would be an id.
_CONNECTION_ID = re.compile(r"[\w#!()\-.\\]{1,250}")
_MAIL_ADDRESS = re.compile(r"[^@,;\n]*[^@,;\s]@[^@,;\s]+")
_TEMPLATE = re.compile(r"\{[{%#]")
_CREDENTIALS = re.compile(r"(?:[a-z][a-z0-9+.-]*:/{1,2})?[^/:@]*:[^/@]*@")
_ON_DISK = re.compile(r"(?:file|local):")
_ABSOLUTE = re.compile(r"[a-z]+:///[^/]")
_LOCATION = re.compile(r"[a-z][a-z0-9+.-]*://[^?#]*[^/?#]/*")


def is_template(value: object) -> bool:
    """Return whether a value is a text that Airflow would render as a template."""
    return isinstance(value, str) and _TEMPLATE.search(value) is not None


def days(name: str, value: object) -> int:
    """Return a number of days. The value may be the text of a rendered template.

    Raises:
        JobArgumentError: the value is not a whole number from 0 to MOST_DAYS.
    """
    text = str(value).strip()
    if isinstance(value, (int, str)) and not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,9}", text):
        number = int(text)
        if number <= MOST_DAYS:
            return number
    raise JobArgumentError(f"{name} is {value!r}; expected a whole number of days from 0 to {MOST_DAYS}")


def row_count(name: str, value: object) -> int | None:
    """Return a number of rows, or None for no limit. The value may be the text of a rendered template.

    Raises:
        JobArgumentError: the value is not a whole number over 0, such as a rendered 'None'.
    """
    if value is None:
        return None
    text = str(value).strip()
    is_number = isinstance(value, (int, str)) and not isinstance(value, bool)
    if is_number and re.fullmatch(r"[0-9]{1,18}", text) and int(text) > 0:
        return int(text)
    raise JobArgumentError(f"{name} is {value!r}; expected a whole number of rows, 1 or more, or None")


def share(name: str, value: object) -> float:
    """Return a share from 0 to 1. The value may be the text of a rendered template.

    Raises:
        JobArgumentError: the value is something else.
    """
    try:
        number = float(value) if isinstance(value, (int, float, str)) else -1.0
    except ValueError:
        number = -1.0
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise JobArgumentError(f"{name} is {value!r}; expected a number from 0 to 1")
    return number


def flag(name: str, value: object) -> bool:
    """Return True or False. The value may be the text of a rendered template.

    Raises:
        JobArgumentError: the value is neither true nor false.
    """
    known = {"true": True, "false": False}.get(str(value).strip().lower())
    if known is None:
        raise JobArgumentError(f"{name} is {value!r}; expected true or false")
    return known


def identifier(name: str, value: object) -> str:
    """Return the name of a table or column. The job looks it up in the catalogue later.

    Raises:
        JobArgumentError: no table or column can have this name, or the value is a template.
    """
    if (
        isinstance(value, str)
        and 0 < len(value) <= LONGEST_IDENTIFIER
        and value.isprintable()
        and value == value.strip()
        and "`" not in value
        and not is_template(value)
    ):
        return value
    raise JobArgumentError(
        f"{name} is {value!r}; expected a name of up to {LONGEST_IDENTIFIER} characters as the database has "
        "it, without quotes, and not a template"
    )


def is_connection_id(value: object) -> bool:
    """Return whether a value can be the id of an Airflow connection."""
    return isinstance(value, str) and _CONNECTION_ID.fullmatch(value) is not None


def connection_id(name: str, value: object, *, raises: type[Exception] = JobArgumentError) -> str:
    """Return the id of an Airflow connection.

    Raises:
        JobArgumentError: no connection can have this id. `raises` is raised instead, if it is given. The
            error doesn't show the value: it may be a URL with a password or a token.
    """
    if isinstance(value, str) and is_connection_id(value):
        return value
    raise raises(
        f"{name} is {unless_secret(value)}; expected {CONNECTION_ID}. Store a URL in an Airflow connection, "
        "and give the id of the connection"
    )


def unless_secret(value: object) -> str:
    """Return how an error shows a value that may be a URL with a password or a token in it."""
    if value is None or value == "" or isinstance(value, (int, float)):
        return repr(value)
    return f"a {type(value).__name__} that is not valid (it is not shown, as it may have a secret in it)"


def boolean(name: str, value: object) -> bool:
    """Return True or False. A template is not allowed.

    Raises:
        JobArgumentError: the value is something else.
    """
    if isinstance(value, bool):
        return value
    raise JobArgumentError(f"{name} is {value!r}; expected True or False")


def duration(name: str, value: object) -> timedelta:
    """Return a duration.

    Raises:
        JobArgumentError: the value is something else, or not over 0.
    """
    if isinstance(value, timedelta) and value > timedelta(0):
        return value
    raise JobArgumentError(f"{name} is {value!r}; expected a timedelta over 0, such as timedelta(hours=1)")


def time_zone(name: str, value: object) -> ZoneInfo:
    """Return the time zone that an argument names.

    Raises:
        JobArgumentError: there is none of that name.
    """
    try:
        if isinstance(value, str):
            return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise JobArgumentError(f"{name} is {value!r}; expected an IANA name such as 'Asia/Shanghai'")


def one_of(name: str, value: object, known: Sequence[str]) -> str:
    """Return one of the known texts.

    Raises:
        JobArgumentError: the value is something else.
    """
    if isinstance(value, str) and value in known:
        return value
    raise JobArgumentError(f"{name} is {value!r}; expected {' or '.join(map(repr, known))}")


def instance(name: str, value: object, kind: type, example: str) -> None:
    """Check that a value is an object of a class.

    Raises:
        JobArgumentError: the value is something else.
    """
    if not isinstance(value, kind):
        raise JobArgumentError(f"{name} is {value!r}; expected {example}")


def is_mail_address(value: object) -> bool:
    """Return whether a value is one mail address, with or without a name before it."""
    return isinstance(value, str) and _MAIL_ADDRESS.fullmatch(value) is not None


def is_callback(value: object) -> bool:
    """Return whether a call of a value does its work: it is no class, no async function and no generator."""
    if not callable(value) or inspect.isclass(value):
        return False
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return not any(kind(code) for kind in kinds for code in (value, type(value).__call__))


def location(name: str, value: object) -> str | None:
    """Return the URL of a location for archives, or None. The value may be the text of a rendered template.

    Raises:
        JobArgumentError: a template was rendered to the text None; or the URL has no scheme, has a `..` or a
            password, or is a relative path on a disk.
    """
    if value is None:
        return None
    _refuse_credentials(name, value)
    if isinstance(value, str) and _LOCATION.fullmatch(value) and ".." not in value.split("/"):
        if _ON_DISK.match(value) and not _ABSOLUTE.match(value):
            # The path would be relative to the worker's working directory, or its first part would be a
            # host name.
            raise JobArgumentError(
                f"{name} is {value!r}; expected three slashes after 'file:' and an absolute path, such as "
                "'file:///folder'"
            )
        return value.rstrip("/")
    raise JobArgumentError(
        f"{name} is {value!r}; expected a URL such as 's3://connection@bucket/folder' or 'file:///folder'"
    )


def below(name: str, value: object, location: str) -> str:
    """Return the URL of a folder below a location. The value is a URL, or a path relative to the location.

    Raises:
        JobArgumentError: the folder is not below the location.
    """
    _refuse_credentials(name, value)
    text = str(value).strip().strip("/")
    relative = text.removeprefix(f"{location}/")
    plain = "://" not in relative and not {"", ".", ".."}.intersection(relative.split("/"))
    if text not in {"", "None"} and plain and not set("?#").intersection(relative):
        return f"{location}/{relative}"
    raise JobArgumentError(f"{name} is {value!r}; expected a folder below {location}")


def _refuse_credentials(name: str, value: object) -> None:
    """Refuse a URL with a password, or with the signature of a signed URL.

    The error doesn't show the URL. Logs and run reports would show it.
    """
    if _CREDENTIALS.match(str(value)):
        raise JobArgumentError(
            f"{name} has a password in it; put user and password into an Airflow connection, and write "
            "its id before the bucket: 's3://connection@bucket/folder'"
        )
    if "?" in str(value):
        raise JobArgumentError(
            f"{name} has a '?' in it, as a signed URL has; expected a URL without one, such as "
            "'s3://connection@bucket/folder'"
        )


def text(name: str, value: object) -> str:
    """Return a text.

    Raises:
        JobArgumentError: the value is something else.
    """
    if isinstance(value, str):
        return value
    raise JobArgumentError(f"{name} is {value!r}; expected a text")


def names(name: str, value: object) -> list[str]:
    """Return a list of names. The value may be the list of a rendered template, or its text.

    Raises:
        JobArgumentError: the value is something else.
    """
    if isinstance(value, str) and value.strip().startswith("["):
        with suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value.strip())
    if isinstance(value, (list, tuple)) and all(isinstance(one, str) and one for one in value):
        return list(value)
    raise JobArgumentError(f"{name} is {value!r}; expected a list of names")


def listed_names(name: str, value: object) -> None:
    """Check a list of names that is not rendered.

    Raises:
        JobArgumentError: the value is something else, such as a single text. Or a name that can't match: a
            template, an Enum, or a text with a space at an end.
    """
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(
        isinstance(n, str) and n for n in value
    ):
        raise JobArgumentError(f"{name} is {value!r}; expected a list of names")
    for one in value:
        if is_template(one) or isinstance(one, Enum) or one != one.strip():
            raise JobArgumentError(
                f"{name} has {one!r}; expected a name as the database has it: not a template, which is not "
                "rendered here, not an Enum, and without spaces at its ends"
            )


def check_literal(check: Callable[[str, object], Any], name: str, value: object) -> None:
    """Check the value of a template field, unless it is a template or another task's result."""
    if hasattr(value, "iter_references") or is_template(value):
        return
    check(name, value)


def names_of(operator_class: type) -> frozenset[str]:
    """Return the names of an operator's arguments, those that its base classes declare included."""
    return frozenset[str]().union(*map(declared_by, inspect.getmro(operator_class)))


@functools.cache
def declared_by(operator_class: type) -> frozenset[str]:
    """Return the names of the arguments that an operator's own `__init__` declares."""
    init = operator_class.__dict__.get("__init__")
    if init is None:
        return frozenset()
    return frozenset(
        one.name
        for one in inspect.signature(init).parameters.values()
        if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD) and one.name != "self"
    )


def nearest(unknown: Collection[str], names: Collection[str], *, cutoff: float = 0.6) -> list[str]:
    """Return the names that are like the unknown ones: what a person may have meant.

    Args:
        unknown: names.
        names: the known ones.
        cutoff: how much they must resemble each other, 0 to 1; see difflib.
    """
    from difflib import get_close_matches

    by_letters = {letters(name): name for name in names}
    return list(
        dict.fromkeys(
            by_letters[near]
            for one in unknown
            for near in get_close_matches(letters(one), by_letters, n=1, cutoff=cutoff)
        )
    )


def letters(name: str) -> str:
    """Return the letters and digits of a name, so that `dry-run`, `dryRun` and `dry_run` are equal."""
    return re.sub(r"[\W_]", "", name).lower()
