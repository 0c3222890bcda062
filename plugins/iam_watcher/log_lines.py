"""Loggers and messages that write one line for each record, whatever the data has.

A user's name, a key in Redis or a message of a database can have line breaks or control characters. Without
escapes, such characters could forge log lines, or hide lines on a terminal.
"""

from __future__ import annotations

import json
import logging
import re
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WAITING_EVERY = 10.0  # seconds between two lines of a wait
WIDTH = 120  # characters of a line of facts
_KEEP = "\0"  # replaces a space at which a line must not end
_PLAIN = re.compile(r"[\w.:/@+*%-]+")


def one_line(text: str) -> str:
    r"""Return the text with an escape for each character that can't be printed: `\n` for a line break."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def fact(value: object) -> str:
    """Return a value for `name=value` in a log line, in quotes if it could be misread."""
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def fact_lines(
    event: str, facts: Mapping[str, object], examples: Iterable[Mapping[str, object]] = ()
) -> list[str]:
    """Return facts as short log lines of name=value, then a line for each example.

    Facts that are None or empty are left out. A line break is always between two facts.
    """
    texts = [f"event={event}"]
    texts += [f"{name}={fact(value)}" for name, value in facts.items() if value not in (None, "", [], {})]
    wrapped = textwrap.wrap(
        " ".join(text.replace(" ", _KEEP) for text in texts),
        WIDTH,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [
        *(line.replace(_KEEP, " ") for line in wrapped),
        *("example: " + " ".join(f"{name}={fact(value)}" for name, value in one.items()) for one in examples),
    ]


def get_logger(name: str) -> logging.Logger:
    """Return the standard library's logger of this name, with one line for each record."""
    logger = logging.getLogger(name)  # noqa: TID251  this is the one place
    logger.addFilter(_keep_to_one_line)
    return logger


def _keep_to_one_line(record: logging.LogRecord) -> bool:
    record.msg, record.args = one_line(record.getMessage()), ()
    return True
