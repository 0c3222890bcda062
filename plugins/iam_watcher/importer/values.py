"""What the readers of JSON and YAML share: values of the expected type, or a reason."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from iam_watcher.importer.job import NotTranslated
from iam_watcher.schedule.duration import BadDuration, parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

Kind = TypeVar("Kind")

AT_ONCE = 16  # Airflow's own default of max_active_runs
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
    except (RecursionError, ValueError, KeyError, AttributeError) as error:  # the last two: of a wrong tag
        raise NotTranslated(f"not YAML or JSON: {type(error).__name__}") from None


def get(data: Mapping[str, Any], key: str, kind: type[Kind], default: Kind) -> Kind:
    """Return the value of a key, or the default if it is missing or null.

    Raises:
        NotTranslated: it has another type.
    """
    value = data.get(key)
    if value is None:
        return default
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise NotTranslated(f"{key} is {value!r}; expected {_name(kind)}")
    return value


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
        raise NotTranslated(f"{key} is {text!r}; expected {bad.expected}") from None


def _name(kind: type) -> str:
    names = {str: "a text", int: "a whole number", bool: "true or false", dict: "a mapping", list: "a list"}
    return names.get(kind, kind.__name__)
