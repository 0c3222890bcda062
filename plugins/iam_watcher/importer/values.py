"""What the readers of JSON and YAML share: values of the expected type, or a reason."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from iam_watcher.arguments import MOST_DAYS
from iam_watcher.importer.job import NotTranslated
from iam_watcher.schedule.duration import BadDuration, parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = TypeVar("Kind")

AT_ONCE = 16  # Airflow's own default of max_active_runs
_MOST_SECONDS = MOST_DAYS * 86_400
_MOST_RETRIES = 2**31 - 1  # what fits into Airflow's database
_LONGEST = 60  # characters of a value in a message
ALLOW = {"overlap": "allow", "max_active_runs": AT_ONCE}


def documents(text: str) -> list[Any]:
    """Return the documents of a YAML or JSON text.

    Raises:
        NotTranslated: it is neither. Of the text, the message shows nothing: there may be passwords in it.
    """
    try:
        return list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise NotTranslated(
            f"{where}not YAML or JSON: {getattr(error, 'problem', None) or 'unreadable'}"
        ) from None
    except (RecursionError, ValueError, OverflowError, KeyError, AttributeError, TypeError) as error:
        # Most of them are of a wrong tag.
        raise NotTranslated(f"not YAML or JSON: {type(error).__name__}") from None


def get(data: Mapping[str, Any], key: str, kind: type[Kind], default: Kind) -> Kind:
    """Return the value of a key, or the default if it is missing or null. A number may be given for a text.

    Raises:
        NotTranslated: it has another type, or is a text with a NUL character.
    """
    value: Any = data.get(key)
    if value is None:
        return default
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(ValueError):  # Python writes no number of more than 4300 digits.
            value = str(value)
    if isinstance(value, str) and "\0" in value:
        raise NotTranslated(f"{key} has a NUL character; expected a text without one")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise NotTranslated(f"{key} is {_shown(value)}; expected {kind_name(kind)}")
    return value


def each(data: Mapping[str, Any], key: str, kind: type[Kind]) -> list[Kind]:
    """Return the list of a key, whose items have one type; an empty list if it is missing or null.

    Raises:
        NotTranslated: it is something else.
    """
    found: list[Kind] = []
    for value in get(data, key, list, []):
        if not isinstance(value, kind):
            raise NotTranslated(f"{key} has {_shown(value)} in it; expected {kind_name(kind)}")
        found.append(value)
    return found


def texts(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the mapping of a key, whose own keys are texts; an empty one if it is missing or null.

    Raises:
        NotTranslated: it is something else.
    """
    found = get(data, key, dict, {})
    for name in found:
        if not isinstance(name, str):
            raise NotTranslated(f"{key} has the key {_shown(name)}; expected a text")
    return found


def retries(data: Mapping[str, Any], key: str, default: int) -> int:
    """Return how often a run is tried again.

    Raises:
        NotTranslated: it is something else than a whole number from 0.
    """
    return _whole(data, key, default, _MOST_RETRIES)


def seconds(data: Mapping[str, Any], key: str) -> timedelta | None:
    """Return a time in whole seconds; None if it is missing or zero.

    Raises:
        NotTranslated: it is something else, is negative, or more than MOST_DAYS.
    """
    return timedelta(seconds=_whole(data, key, 0, _MOST_SECONDS)) or None


def number(data: Mapping[str, Any], key: str, default: float) -> float:
    """Return a number of seconds that has a fraction, or the text of one; the default if it is empty.

    Raises:
        NotTranslated: it is not a finite number over 0, or more than MOST_DAYS.
    """
    text = get(data, key, str, "").strip()
    try:
        found = float(text or default)
    except ValueError:
        found = math.nan
    if not 0 < found <= _MOST_SECONDS:  # nor is NaN
        raise NotTranslated(f"{key} is {_shown(text)}; expected a number over 0, at most {_MOST_SECONDS}")
    return found


def days(data: Mapping[str, Any], key: str) -> int:
    """Return a number of days; 0 if it is missing.

    Raises:
        NotTranslated: it is something else, or not from 0 (off) to MOST_DAYS.
    """
    return _whole(data, key, 0, MOST_DAYS, " (off)")


def kind_name(kind: type) -> str:
    """Return what a message calls the values of a type."""
    names = {str: "a text", int: "a whole number", bool: "true or false", dict: "a mapping", list: "a list"}
    return names.get(kind, f"a {kind.__name__}")


def shown_name(data: Any, key: str) -> str:
    """Return a name for the report, quoted, or an empty text if it is no text."""
    name = data.get(key) if isinstance(data, dict) else None
    return repr(name) if isinstance(name, str) else ""


def text_or_empty(data: Mapping[str, Any], key: str) -> str:
    """Return the text of a key as `get` does, or an empty one where `get` refuses it."""
    try:
        return get(data, key, str, "")
    except NotTranslated:
        return ""


def texts_in(data: Mapping[str, Any], key: str) -> list[str]:
    """Return the texts of a list that is written as JSON in a text.

    Raises:
        NotTranslated: it is something else. The message doesn't show it: there may be passwords in it.
    """
    found = next(iter(documents(get(data, key, str, "[]"))), None)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise NotTranslated(f"{key} is something else than a list of texts as JSON")
    return found


def duration(data: Mapping[str, Any], key: str) -> timedelta | None:
    """Return a duration of Go, such as `1h30m`; None if it is missing, empty or zero.

    Raises:
        NotTranslated: it is none.
    """
    text = get(data, key, str, "")
    if not text or re.fullmatch(r"0+[a-z]*", text):
        return None
    try:
        return parse_duration(text)
    except BadDuration as bad:
        raise NotTranslated(f"{key} is {_shown(text)}; expected {bad.expected}") from None


def _whole(data: Mapping[str, Any], key: str, default: int, most: int, zero: str = "") -> int:
    found = get(data, key, int, default)
    if not 0 <= found <= most:
        raise NotTranslated(f"{key} is {_shown(found)}; expected 0{zero} to {most}")
    return found


def _shown(value: Any) -> str:
    """Return a value for a message: of a list or a mapping the type, because a password may be in it."""
    if not isinstance(value, str | int | float | None):
        return kind_name(type(value))
    try:
        text = repr(value)
    except ValueError:
        return "a number of more than 4300 digits"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
